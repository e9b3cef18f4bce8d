"""One bad file among good ones of a recorded run: it is reported, its volume is a gap, all others are unchanged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadVolume
from mindsight.scanner import open_run, open_series
from mindsight.volume import Volume
from support.par_files import Pair, write_pair


def dicoms(folder: Path, source: Path, n: int) -> list[Path]:
    files = sorted(source.iterdir())[:n]
    return [Path(shutil.copy(path, folder / f"Doe_{k:04d}.dcm")) for k, path in enumerate(files)]


def mosaics(folder: Path, data: Path) -> list[Path]:
    return dicoms(folder, data / "trio_run155" / "dcm", 5)


def enhanced(folder: Path, data: Path) -> list[Path]:
    return dicoms(folder, data / "siemens_xa30_enhanced", 5)


def niftis(folder: Path, data: Path) -> list[Path]:
    paths = [folder / f"Doe_{k}.nii.gz" for k in range(5)]
    for k, path in enumerate(paths):
        image = nib.Nifti1Image(np.full((4, 5, 6), k, np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 1.5
        image.to_filename(path)
    return paths


def pairs(folder: Path, data: Path) -> list[Path]:
    return [write_pair(folder / f"Doe-{k}.par", Pair(dynamics=(k + 1,)), seed=k) for k in range(5)]


Maker = Callable[[Path, Path], list[Path]]
BAD = {
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:60]),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
}


# A run that was stopped: what is cut off at its end is left, also in strict reading.
LEFT_AS_LAST = {
    mosaics: ("cut in half",),
    enhanced: ("cut in half",),
    niftis: ("cut in half", "cut in the header", "empty"),
    pairs: ("cut in half", "cut in the header", "empty"),
}


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Maker], tuple[Volume, ...]]:
    """The run as it is without a bad file; each read once."""

    @cache
    def read(make: Maker) -> tuple[Volume, ...]:
        folder = tmp_path_factory.mktemp("whole")
        make(folder, data)
        return tuple(open_series(folder))

    return read


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("make", [mosaics, enhanced, niftis, pairs])
def test_the_run_goes_on_without_a_bad_file(
    make: Maker, how: str, place: int, data: Path, whole: Callable[[Maker], tuple[Volume, ...]], tmp_path: Path
) -> None:
    files = make(tmp_path, data)
    truth = whole(make)
    BAD[how](files[place])
    if place == 4 and how in LEFT_AS_LAST.get(make, ()):
        series = open_series(tmp_path)
        assert [volume.index for volume in series] == [0, 1, 2, 3]
        assert any("left out the last volume" in note for note in series.notes)
    else:
        with pytest.raises(BadVolume):
            list(open_series(tmp_path))
    errors: list[BadVolume] = []
    run = open_run(tmp_path, on_bad=errors.append)
    volumes = list(run.volumes())
    assert [volume.index for volume in volumes] == [k for k in range(5) if k != place]
    for volume in volumes:
        np.testing.assert_array_equal(volume.data, truth[volume.index].data)
        assert volume.acquired_s == truth[volume.index].acquired_s
    assert len(errors) == 1
    assert errors[0].details["file"] == place + 1
    assert "Doe" not in str(errors[0])
    assert run.n_volumes in (5, 4 if place == 4 else 5)


def test_a_bad_slice_costs_its_volume(data: Path, tmp_path: Path) -> None:
    files = dicoms(tmp_path, data / "ge_mr750" / "mr_0004", 60)
    truth = list(open_series(tmp_path))
    files[20].write_bytes(files[20].read_bytes()[:1000])
    whole = files[50].read_bytes()
    files[50].write_bytes(whole[: len(whole) - 100])
    errors: list[BadVolume] = []
    volumes = list(open_series(tmp_path, on_bad=errors.append))
    assert [volume.index for volume in volumes] == [0, 2]
    for volume in volumes:
        np.testing.assert_array_equal(volume.data, truth[volume.index].data)
    assert len(errors) == 3  # the file, and so its volume; the other volume


def test_a_double_is_reported_and_the_first_kept(data: Path, tmp_path: Path) -> None:
    files = mosaics(tmp_path, data)
    (tmp_path / "Doe_again.dcm").write_bytes(files[1].read_bytes()[:-2] + b"\7\0")
    errors: list[BadVolume] = []
    assert [volume.index for volume in open_series(tmp_path, on_bad=errors.append)] == list(range(5))
    assert [error.code for error in errors] == ["series.duplicate"]


def test_a_volume_of_another_shape_is_reported(tmp_path: Path) -> None:
    files = niftis(tmp_path, tmp_path)
    image = nib.Nifti1Image(np.zeros((4, 5, 7), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.to_filename(files[3])
    errors: list[BadVolume] = []
    assert [volume.index for volume in open_series(tmp_path, on_bad=errors.append)] == [0, 1, 2, 4]
    assert [(error.code, error.details["index"]) for error in errors] == [("volume.shape_mismatch", 3)]


def test_a_4d_file_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "bold.nii"
    image = nib.Nifti1Image(np.zeros((4, 5, 6, 4), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    path.write_bytes(path.read_bytes()[:-10])
    errors: list[BadVolume] = []
    run = open_run(tmp_path, on_bad=errors.append)
    assert run.n_volumes == 4
    assert [volume.index for volume in run.volumes()] == [0, 1, 2]
    assert [error.code for error in errors] == ["nifti.truncated"]


@pytest.mark.parametrize("make", [mosaics, niftis, pairs])
def test_nothing_but_bad_files_is_an_error(make: Maker, data: Path, tmp_path: Path) -> None:
    for path in make(tmp_path, data):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadVolume):
        open_series(tmp_path, on_bad=lambda _: None)
