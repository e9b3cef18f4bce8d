from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from mindsight.preprocessing.motion import rigid


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0])
def test_exponential_is_the_matrix_exponential(scale: float) -> None:
    twist = scale * np.array([3.0, -2.0, 5.0, 0.4, 0.2, -0.6])
    centre = np.array([10.0, -20.0, 30.0])
    w = twist[3:]
    generator = np.zeros((4, 4))
    generator[:3, :3] = [[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]]
    generator[:3, 3] = twist[:3]
    shift = np.eye(4)
    shift[:3, 3] = centre
    np.testing.assert_allclose(
        rigid.exponential(twist, centre), shift @ expm(generator) @ np.linalg.inv(shift), atol=1e-12
    )


def test_angles_and_matrix_are_inverse_to_each_other() -> None:
    angles = np.array([0.3, -0.2, 0.5])
    motion = rigid.about(rigid.from_angles(angles), np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(rigid.angles(motion), angles, atol=1e-12)
    np.testing.assert_allclose(rigid.inverse(motion) @ motion, np.eye(4), atol=1e-12)


def test_signs_are_spms() -> None:
    """spm_matrix([0 0 0 r 0 0]) has +sin(r) at row y, column z; likewise x-z for pitch about y, x-y about z."""
    for axis, (row, column) in enumerate([(1, 2), (0, 2), (0, 1)]):
        assert rigid.from_angles(0.1 * np.eye(3)[axis])[row, column] == pytest.approx(np.sin(0.1))


def test_displacement_adds_translation_and_arc() -> None:
    """The arc is that of the one rotation which the three angles make together, on Power's sphere by default."""
    motion = rigid.about(rigid.from_angles(np.array([0.0, 0.02, 0.0])), np.array([3.0, 4.0, 0.0]), np.ones(3))
    assert rigid.displacement_mm(motion, np.ones(3)) == pytest.approx(5.0 + 50.0 * 0.02)
    assert rigid.displacement_mm(motion, np.ones(3), rigid.LEVER_MM) == pytest.approx(5.0 + 60.0 * 0.02)
    turn = rigid.from_angles(np.array([0.3, -0.4, 0.5]))
    turned = rigid.about(turn, np.zeros(3), np.ones(3))
    assert rigid.displacement_mm(turned, np.ones(3)) == pytest.approx(50.0 * Rotation.from_matrix(turn).magnitude())
    shifted = rigid.about(np.eye(3), np.array([3.0, 0.0, 4.0]), np.ones(3))
    assert rigid.displacement_mm(shifted, np.ones(3)) == pytest.approx(5.0)
