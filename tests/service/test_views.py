"""What a page is shown of a volume, a mask and a beta, read back with nibabel."""

from __future__ import annotations

import gzip
import threading

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.errors import NotFound
from mindsight.volume import Volume
from service.view_store import Views
from service.views import MAX_VIEW_VOXELS, beta_view, outline_view, volume_view

AFFINE = np.array([[-2.9, 0, 0.1, 110.0], [0, 2.8, -1.1, -81.5], [0, 0.9, 3.6, -70.1], [0, 0, 0, 1]])


def of(data: NDArray[np.generic]) -> Volume:
    return Volume(data, AFFINE, 2.0, 1, 0)


def read(view: bytes) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(view)


def test_a_volume_keeps_its_place_and_its_values_to_one_of_256_levels() -> None:
    data = np.random.default_rng(0).integers(0, 3000, (12, 10, 8)).astype(np.int16)
    image = read(volume_view(of(data)))
    np.testing.assert_allclose(image.affine, AFFINE, rtol=1e-6)
    white = np.percentile(data, 99.8)
    np.testing.assert_allclose(image.get_fdata(), np.minimum(data, white), atol=white / 255)


def test_a_large_volume_is_averaged_and_stays_where_it_is() -> None:
    """Its centre of mass is the same point of the scanner."""
    x, y, z = np.mgrid[:110, :104, :72]
    blob = (1000 * np.exp(-((x - 60.0) ** 2 + (y - 40.0) ** 2 + (z - 30.0) ** 2) / 200)).astype(np.float32)
    image = read(volume_view(of(blob)))
    small = image.get_fdata()
    assert small.size <= MAX_VIEW_VOXELS

    def centre_mm(data: NDArray[np.generic], affine: NDArray[np.float64]) -> NDArray[np.float64]:
        at = np.array([(axis * data).sum() / data.sum() for axis in np.indices(data.shape)])
        return affine[:3, :3] @ at + affine[:3, 3]

    np.testing.assert_allclose(centre_mm(small, image.affine), centre_mm(blob, AFFINE), atol=0.3)


def test_values_that_are_no_numbers_are_black() -> None:
    data = np.full((4, 5, 6), np.nan, np.float32)
    data[1, 2, 3], data[0, 0, 0] = 7.0, np.inf
    shown = read(volume_view(of(data))).get_fdata()
    assert shown[1, 2, 3] > 5.0  # white is a percentile of the volume
    assert np.count_nonzero(shown) == 1


def test_an_outline_has_the_voxels_with_a_neighbour_outside() -> None:
    mask = np.zeros((7, 7, 7), np.uint8)
    mask[1:6, 1:6, 1:6] = 1
    mask[0, 3, 3] = 1  # at the edge of the grid
    edge = read(outline_view(of(mask))).get_fdata() > 0
    inner = np.zeros_like(edge)
    inner[2:5, 2:5, 2:5] = True
    inner[1, 3, 3] = True
    np.testing.assert_array_equal(edge, (mask > 0) & ~inner)


def test_only_a_mask_has_an_outline() -> None:
    for data in (np.full((3, 3, 3), 2, np.uint8), np.ones((3, 3, 3), np.float32)):
        with pytest.raises(NotFound):
            outline_view(of(data))


def test_a_beta_is_in_percent_of_the_reference_and_in_the_mask_only() -> None:
    rng = np.random.default_rng(1)
    mask = (rng.random((6, 5, 4)) < 0.5).astype(np.uint8)
    reference = rng.uniform(500, 1500, mask.shape).astype(np.float32)
    beta_V = rng.normal(0, 10, int(mask.sum())).astype(np.float32)
    shown = read(beta_view(beta_V, of(mask), of(reference))).get_fdata()
    np.testing.assert_allclose(shown[mask > 0], 100 * beta_V / reference[mask > 0], atol=0.006)
    assert not shown[mask == 0].any()
    with pytest.raises(NotFound):
        beta_view(beta_V[1:], of(mask), of(reference))


def test_many_who_look_at_once_have_a_view_made_once() -> None:
    views, made = Views(), []

    def make() -> bytes:
        made.append(1)
        return b"view" * 1000

    threads = [threading.Thread(target=views.get, args=("a", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gzip.decompress(views.get("a", make)) == b"view" * 1000
    assert len(made) == 1


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.view_store.KEPT_BYTES", 4000)
    views = Views()
    noise = np.random.default_rng(2).bytes(1000)
    for k in range(8):
        views.get(str(k), lambda: noise)
    assert views._n_bytes <= 4000
    assert set(views._kept) == {"5", "6", "7"}
