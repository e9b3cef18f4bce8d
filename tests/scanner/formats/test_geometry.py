"""Every pixel of a file is where DICOM says it is (PS3.3 C.7.6.2.1.1), for the sets that come without a NIfTI."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mindsight.scanner import read_series
from mindsight.volume import Volume


def place(volume: Volume, position_lps: np.ndarray) -> np.ndarray:
    """Voxel index of a point in DICOM's frame."""
    ras = position_lps * [-1, -1, 1]
    return np.linalg.solve(volume.affine, [*ras, 1.0])[:3]


@pytest.mark.parametrize("series", ["philips_elition_slices8", "pyneal/ge_mr750_slices_54"])
def test_pixels_of_slices_lie_where_their_file_states(shared: Path, series: str) -> None:
    folder = shared / "data" / series
    volumes = list(read_series(folder))
    files = [path for path in sorted(folder.iterdir()) if "MRDC" in path.name or path.suffix == ".dcm"]
    seen = set()
    for path in files[::17]:
        dataset = pydicom.dcmread(path)
        scale = dataset.get((0x2005, 0x100E))  # Philips: (stored × RS + RI) / (RS × SS), and RI is 0 here
        pixels = dataset.pixel_array * (1.0 if scale is None else 1.0 / scale.value)
        position = np.array(dataset.ImagePositionPatient, float)
        along_row, down_column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = map(float, dataset.PixelSpacing)
        row, column = np.unravel_index(pixels.argmax(), pixels.shape)
        point = position + along_row * between_columns * column + down_column * between_rows * row
        number = dataset.get("TemporalPositionIdentifier") or (dataset.InstanceNumber - 1) // 18 + 1
        volume = volumes[number - 1]
        voxel = place(volume, point)
        np.testing.assert_allclose(voxel, voxel.round(), atol=0.02)
        x, y, z = voxel.round().astype(int)
        assert volume.data[x, y, z] == pytest.approx(pixels[row, column], rel=1e-6)
        np.testing.assert_allclose(volume.data[:, ::-1, z].T, pixels, rtol=1e-6)
        seen.add((number, z))
    assert len({number for number, _ in seen}) > 1
    assert len({z for _, z in seen}) > 2


def test_frames_of_an_enhanced_object_lie_where_they_say(shared: Path) -> None:
    path = shared / "data" / "siemens_xa30_enhanced" / "0007.dcm"
    (volume,) = read_series(path)
    dataset = pydicom.dcmread(path)
    for pixels, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        voxel = place(volume, np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float))
        z = int(voxel[2].round())
        np.testing.assert_allclose(voxel, [0, 63, z], atol=0.02)
        np.testing.assert_array_equal(volume.data[:, ::-1, z].T, pixels)


def test_an_enhanced_object_equals_nibabels(shared: Path) -> None:
    path = shared / "data" / "siemens_xa30_enhanced" / "0007.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel warns on import that it is experimental
        from nibabel.nicom.dicomwrappers import wrapper_from_data

        wrapper = wrapper_from_data(pydicom.dcmread(path))
        data_RCZ, affine_lps = wrapper.get_data(), wrapper.affine
    (volume,) = read_series(path)
    np.testing.assert_array_equal(volume.data, data_RCZ.transpose(1, 0, 2)[:, ::-1, ::-1])  # top first
    for index in ([0, 0, 0], [10, 20, 5], [63, 63, 32]):  # nibabel's are (row, column, slice)
        row, column, z = index
        point = (affine_lps @ [*index, 1.0])[:3]
        np.testing.assert_allclose(place(volume, point), [column, 63 - row, 32 - z], atol=1e-3)
