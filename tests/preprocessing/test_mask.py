from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from mindsight.errors import BadVolume
from mindsight.preprocessing import brain_mask
from mindsight.volume import Volume
from support.phantoms import Phantom, Truth


def test_the_head_is_found_whole_and_in_one_piece(phantom: Phantom) -> None:
    volume = phantom.volume()
    mask = brain_mask(volume.data)
    truth = np.zeros(phantom.shape, np.bool_)
    ijk = np.rint((np.linalg.inv(phantom.affine) @ phantom.points)[:3]).astype(int)
    truth[tuple(ijk)] = True
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.96
    assert ndimage.label(mask)[1] == 1
    assert (ndimage.binary_fill_holes(mask) == mask).all()


def test_voxels_that_are_not_finite_do_no_harm(phantom: Phantom) -> None:
    data = phantom.volume(dtype=np.float32).data.copy()
    whole = brain_mask(data)
    data[20, 20, 12] = np.nan
    data[2, 2, 2] = np.inf
    assert (brain_mask(data) == whole).mean() > 0.999


def test_a_simulated_brain_with_known_mask_is_covered(typical: Truth) -> None:
    mask = brain_mask(typical.volumes[0].data)
    assert (mask & typical.brain_XYZ).sum() / typical.brain_XYZ.sum() > 0.99
    assert (mask & ~typical.brain_XYZ).sum() / typical.brain_XYZ.sum() < 0.1


def test_a_real_head_is_covered(trio: list[Volume], shared: Path) -> None:
    mask = brain_mask(trio[0].data)
    litres = mask.sum() * np.prod(trio[0].voxel_mm) / 1e6
    assert 1.0 < litres < 2.0


def test_a_single_slice_has_a_mask_too(shared: Path) -> None:
    data = np.asarray(nib.load(shared / "data" / "haxby2001" / "run-001" / "bold.nii.gz").dataobj[..., 0])
    mask = brain_mask(data)
    assert mask.shape == (40, 20, 1)
    bright = data > 0.3 * np.percentile(data, 98)
    assert 2 * (mask & bright).sum() / (mask.sum() + bright.sum()) > 0.9


def test_nothing_to_find_is_reported() -> None:
    with pytest.raises(BadVolume, match="no bright region") as caught:
        brain_mask(np.zeros((20, 20, 10)))
    assert caught.value.code == "mask.empty"
