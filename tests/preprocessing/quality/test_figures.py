from __future__ import annotations

import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.preprocessing import Quality


def test_figures_are_what_their_definitions_say() -> None:
    rng = np.random.default_rng(0)
    y_TV = rng.normal(800, 12, (30, 500)).astype(np.float32)
    motion_T6 = rng.normal(0, 0.1, (30, 6)) * [1, 1, 1, 0.01, 0.01, 0.01]
    quality = Quality(500)
    figures = [quality.push(y_V, motion_6) for y_V, motion_6 in zip(y_TV, motion_T6, strict=True)]
    assert figures[0].fd_mm is None
    assert figures[0].dvars_percent is None
    assert figures[1].tsnr is None
    step = np.abs(np.diff(motion_T6, axis=0))
    fd = step[:, :3].sum(axis=1) + 50.0 * step[:, 3:].sum(axis=1)
    np.testing.assert_allclose([f.fd_mm for f in figures[1:]], fd, rtol=1e-12)
    y = y_TV.astype(np.float64)
    for t in (1, 10, 29):
        dvars = 100 * np.sqrt(((y[t] - y[t - 1]) ** 2).mean()) / y[: t + 1].mean()
        assert figures[t].dvars_percent == pytest.approx(dvars, rel=1e-9)
    for t in (2, 29):
        tsnr = np.median(y[: t + 1].mean(axis=0) / y[: t + 1].std(axis=0, ddof=1))
        assert figures[t].tsnr == pytest.approx(tsnr, rel=1e-6)


def test_a_voxel_that_is_not_finite_counts_as_unchanged() -> None:
    quality = Quality(3)
    quality.push(np.array([100.0, 100.0, 100.0]), np.zeros(6))
    figures = quality.push(np.array([np.nan, 100.0, np.inf]), np.zeros(6))
    assert figures.dvars_percent == 0.0
    assert quality.push(np.array([101.0, 99.0, 100.0]), np.zeros(6)).tsnr is not None


def test_a_constant_image_has_no_tsnr_and_an_empty_one_no_dvars() -> None:
    quality = Quality(4)
    for _ in range(4):
        figures = quality.push(np.zeros(4), np.zeros(6))
    assert figures.tsnr is None
    assert figures.dvars_percent is None


def test_a_restored_quality_gives_the_same_bits() -> None:
    rng = np.random.default_rng(1)
    y_TV = rng.normal(800, 12, (12, 200)).astype(np.float32)
    one, other = Quality(200), Quality(200)
    for y_V in y_TV[:6]:
        one.push(y_V, np.zeros(6))
    other.load_state(one.state())
    assert [one.push(y_V, np.ones(6)) for y_V in y_TV[6:]] == [other.push(y_V, np.ones(6)) for y_V in y_TV[6:]]


def test_another_number_of_voxels_is_refused() -> None:
    with pytest.raises(BadRequest, match="expected 4 voxels"):
        Quality(4).push(np.zeros(5), np.zeros(6))


def test_a_broken_volume_stays_out_of_tsnr() -> None:
    rng = np.random.default_rng(0)
    run_TV = (1000.0 + rng.normal(0.0, 10.0, (40, 300))).astype(np.float32)
    undisturbed, disturbed = Quality(300), Quality(300)
    for t, voxels_V in enumerate(run_TV):
        plain = undisturbed.push(voxels_V, np.zeros(6), broken=t == 20)
        spiked = disturbed.push(voxels_V * (0.8 if t == 20 else 1.0), np.zeros(6), broken=t == 20)
        if t == 20:
            assert spiked.dvars_percent is not None
            assert spiked.dvars_percent > 15.0
    assert plain.tsnr == pytest.approx(spiked.tsnr)
    restored = Quality(300)
    restored.load_state(disturbed.state())
    assert restored.push(run_TV[0], np.zeros(6)) == disturbed.push(run_TV[0], np.zeros(6))
