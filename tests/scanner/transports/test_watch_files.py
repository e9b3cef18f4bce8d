"""A watched folder that fills with NIfTI and PAR/REC: per volume and whole runs, half-written first, and mixed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindsight.scanner import read_series
from mindsight.scanner.assembly.arrivals import Arrival, NumberedVolume
from mindsight.scanner.assembly.parrec_pairs import PairOrder
from mindsight.scanner.transports import Expected, Timeouts, TransportWarning
from mindsight.scanner.transports.folder import FolderReader
from mindsight.scanner.transports.watch import FolderWatch, Mode
from mindsight.volume import Volume
from support.nifti_files import image
from support.par_files import Pair, write_pair
from support.taking import (
    CLOCK,
    SHORT_TIMEOUTS,
    codes,
    ends,
    places,
    take,
    trio_file,
    until_volumes,
    volumes,
    warnings_in,
)

MODES: list[Mode] = ["events", "polling"]


def watch(folder: Path, mode: Mode = "events", **options: object) -> FolderWatch:
    return FolderWatch(folder, mode=mode, clock=CLOCK, timeouts=SHORT_TIMEOUTS, **options)  # type: ignore[arg-type]


def assert_same(got: list[Volume], expected: list[Volume]) -> None:
    for volume, truth in zip(got, expected, strict=True):
        np.testing.assert_array_equal(volume.data, truth.data)
        np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-4)
        assert volume.arrived_s == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("names", ["Doe_{:04d}.nii.gz", "f-0007-{:05d}-{:06d}-01.nii", "run2_vol{}.NII"])
def test_a_nifti_per_volume(mode: Mode, names: str, trio: list[Volume], tmp_path: Path) -> None:
    """In another order, one cut off first, one lost, one made at its full length and filled later."""
    paths = [tmp_path / names.format(k + 1, k + 1) for k in range(8)]
    outside = tmp_path.parent / f"{tmp_path.name}_outside"
    outside.mkdir()
    contents = []
    for path, volume in zip(paths, trio, strict=False):
        image(volume).to_filename(outside / path.name.lower())
        contents.append((outside / path.name.lower()).read_bytes())

    def scanner() -> None:
        for k in (0, 1, 3, 2, 4, 6, 7):
            if k == 1:
                paths[k].write_bytes(contents[k][:2000])
                time.sleep(0.2)
            if k == 4:
                with paths[k].open("wb") as file:
                    file.write(bytes(len(contents[k])))
                    file.seek(0)
                    file.write(contents[k][:5000])
                    file.flush()
                    time.sleep(0.08)
                    file.write(contents[k][5000:])
                continue
            paths[k].write_bytes(contents[k])
            time.sleep(0.02)

    with watch(tmp_path, mode) as transport:
        thread = threading.Thread(target=scanner)
        thread.start()
        items = take(transport, until_volumes(7))
        thread.join()
    assert places(items) == [(1, k) for k in (0, 1, 2, 3, 4, 6, 7)]
    assert_same(volumes(items), [trio[k] for k in (0, 1, 2, 3, 4, 6, 7)])
    assert [(t.index, t.missing) for t in warnings_in(items)] == [(5, True)]
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 8)]
    assert "Doe" not in repr(warnings_in(items))


def test_volumes_that_state_no_tr_need_one_and_take_the_times_beside(trio: list[Volume], tmp_path: Path) -> None:
    with watch(tmp_path, expected=Expected(tr_s=1.97)) as transport:
        for k in range(3):
            (tmp_path / f"vol_{k}.json").write_text(json.dumps({"SliceTiming": trio[k].slice_times_s.tolist()}))
            image(trio[k], tr_s=None).to_filename(tmp_path / f"vol_{k}.nii.gz")
        items = take(transport, until_volumes(3))
    assert warnings_in(items) == []
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    for volume, truth in zip(volumes(items), trio, strict=False):
        assert volume.tr_s == 1.97
        np.testing.assert_allclose(volume.slice_times_s, truth.slice_times_s)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_whole_run_is_read_when_it_is_whole(suffix: str, trio: list[Volume], tmp_path: Path) -> None:
    data_XYZT = np.stack([volume.data for volume in trio[:4]], axis=3)
    nifti = nib.Nifti1Image(data_XYZT, trio[0].affine)
    nifti.header.set_xyzt_units("mm", "sec")
    nifti.header["pixdim"][4] = 1.97
    whole = tmp_path / f"out{suffix}"
    nifti.to_filename(whole)
    content = whole.read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    reader = FolderReader(folder, Timeouts(), settle_s=0.1, existing=False)
    found: list[Arrival | TransportWarning] = []
    for tenth, n_bytes in enumerate((200, 5000, len(content) // 2, len(content) - 1)):
        (folder / f"bold{suffix}").write_bytes(content[:n_bytes])
        for now_s in (tenth, tenth + 0.5):
            found += [*reader.scan(now_s), *reader.read(now_s, 0.0)]
    assert found == []
    with watch(folder) as transport:
        for name in ("1", "2"):
            (folder / f"Doe_{name}{suffix}").write_bytes(content)
        items = take(transport, until_volumes(8))
    assert places(items) == [(run, k) for run in (1, 2) for k in range(4)]
    assert_same(volumes(items), trio[:4] * 2)
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 4), (2, 4)]
    assert warnings_in(items) == []


def dump(folder: Path, number: int, dynamic: int, suffix: str = ".par", **changes: object) -> Path:
    return write_pair(folder / f"Dump-{number:04d}{suffix}", replace(Pair(dynamics=(dynamic,)), **changes), seed=number)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", [".par", ".PAR"])
def test_a_pair_per_volume_and_a_restart(mode: Mode, suffix: str, tmp_path: Path) -> None:
    """The files of a pair arrive one before the other, or in part; names continue counting when a run restarts."""
    outside, folder = tmp_path / "out", tmp_path / "Doe"
    outside.mkdir()
    folder.mkdir()
    pairs = [dump(outside, number, dynamic, suffix) for number, dynamic in ((1, 1), (2, 2), (3, 3), (4, 1), (5, 2))]
    truth = [next(iter(read_series(par))) for par in pairs]

    def scanner() -> None:
        for k, par in enumerate(pairs):
            rec = par.with_suffix(".rec" if suffix == ".par" else ".REC")
            if k == 1:
                (folder / par.name).write_bytes(par.read_bytes()[:1500])
                (folder / rec.name).write_bytes(rec.read_bytes()[:100])
                time.sleep(0.2)
            for file in (par, rec) if k % 2 else (rec, par):
                shutil.copy(file, folder)
                time.sleep(0.05)

    with watch(folder, mode) as transport:
        thread = threading.Thread(target=scanner)
        thread.start()
        items = take(transport, until_volumes(5))
        thread.join()
    assert warnings_in(items) == []
    assert places(items) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    assert_same(volumes(items), truth)
    assert [(end.run, end.n_volumes) for end in ends(items)] == [(1, 3), (2, 2)]


def test_pairs_that_all_say_the_first_are_counted_by_their_names(tmp_path: Path) -> None:
    with watch(tmp_path) as transport:
        for number in (2, 1, 3, 5):
            dump(tmp_path, number, 1)
        items = take(transport, until_volumes(4))
    assert places(items) == [(1, 0), (1, 1), (1, 2), (1, 4)]


def test_a_run_in_one_pair_and_a_rec_that_never_comes(tmp_path: Path) -> None:
    with watch(tmp_path) as transport:
        write_pair(tmp_path / "Doe.par", Pair(types=(0, 3)))
        dump(tmp_path, 1, 1).with_suffix(".rec").unlink()
        items = take(transport, lambda items: len(volumes(items)) >= 3 and bool(codes(items)))
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert codes(items) == ["parrec.no_pair"]
    assert "Doe" not in repr(items)


def test_a_lone_pair_is_no_run_and_what_is_held_is_bounded() -> None:
    order = PairOrder()
    volume = Volume(np.zeros((2, 2, 2), np.int16), np.eye(4), 1.0, 1, 0)
    decided = [one for k in range(50) for one in order.add(NumberedVolume(f"s{k}", 0, volume, stated=1))]
    assert len(decided) == 42
    assert len({placed.series for placed in (*decided, *order.finish())}) == 50


def test_formats_and_series_at_once(data: Path, trio: list[Volume], tmp_path: Path) -> None:
    """Four series grow in one folder; the one that is expected is the run, and the rest says why."""
    with watch(tmp_path, expected=Expected(shape=(74, 74, 36))) as transport:
        for k in range(3):
            shutil.copy(trio_file(data, k + 1), tmp_path)
            shutil.copy(data / "siemens_xa30_enhanced" / f"{k + 1:04d}.dcm", tmp_path)
            dump(tmp_path, k + 1, k + 1)
            image(Volume(np.zeros((4, 5, 6), np.int16), np.eye(4), 1.0, 1, 0)).to_filename(tmp_path / f"v{k}.nii")
        items = take(transport, lambda items: len(volumes(items)) >= 3 and len(codes(items)) >= 3)
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert_same(volumes(items), trio[:3])
    assert codes(items) == ["series.ignored"] * 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.data())
def test_mutated_files_are_reported_or_read(cuts: st.DataObject, tmp_path: Path) -> None:
    nifti, par = tmp_path / "1.nii", tmp_path / "1.par"
    tiny = Volume(np.zeros((4, 5, 6), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]), 1.0, 1, 0)
    image(tiny).to_filename(nifti)
    write_pair(par, Pair())
    (tmp_path / "1.json").write_text('{"SliceTiming": [0, 1], "MissingVolumes": [0], "RepetitionTime": "x"}')
    for path in (nifti, par, par.with_suffix(".rec"), tmp_path / "1.json"):
        content = bytearray(path.read_bytes())
        for _ in range(cuts.draw(st.integers(0, 4))):
            content[cuts.draw(st.integers(0, min(len(content), 4000) - 1))] = cuts.draw(st.integers(0, 255))
        del content[cuts.draw(st.integers(len(content) // 2, len(content))) :]
        path.write_bytes(content)
    reader = FolderReader(tmp_path, Timeouts(whole_s=0.5), settle_s=0.0, existing=True)
    list(reader.scan(0.0))
    found = [one for now_s in (0.0, 1.0, 2.0) for one in reader.read(now_s, 0.0)]
    assert {type(one) for one in found} <= {Arrival, TransportWarning}
    assert reader.due_s(3.0) == float("inf")  # nothing is waited for any more


def test_a_file_that_inflates_without_end_stops_no_run(data: Path, trio: list[Volume], tmp_path: Path) -> None:
    """A few hundred kilobytes that promise, and would hold, gigabytes."""
    header = nib.Nifti1Header()
    header.set_data_shape((256, 256, 256, 100))
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    bomb = gzip.compress(header.binaryblock + bytes(4)) + gzip.compress(bytes(64_000_000)) * 4
    with watch(tmp_path) as transport:
        (tmp_path / "Doe.nii.gz").write_bytes(bomb)
        (tmp_path / "huge.dcm").write_bytes(b"")
        os.truncate(tmp_path / "huge.dcm", 2 << 30)
        tracemalloc.start()
        for k in range(4):
            shutil.copy(trio_file(data, k + 1), tmp_path)
        items = take(transport, lambda items: len(volumes(items)) >= 4 and len(codes(items)) >= 2)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert places(items) == [(1, k) for k in range(4)]
    assert sorted(codes(items)) == ["dicom.too_large", "nifti.too_large"]
    assert peak < 100e6


def test_what_a_program_makes_beside_a_run_is_no_run(trio: list[Volume], tmp_path: Path) -> None:
    """SPM's resliced images and their mean, written while the run is read and after it."""
    with watch(tmp_path) as transport:
        for k in range(3):
            nib.save(image(trio[k]), tmp_path / f"f_{k:03d}.nii")
            nib.save(image(trio[k + 1]), tmp_path / f"rf_{k:03d}.nii")
        nib.save(image(trio[0]), tmp_path / "meanf_000.nii")
        items = take(transport, lambda items: len(volumes(items)) >= 3 and codes(items).count("series.ignored") >= 2)
    assert_same(volumes(items), trio[:3])
    ignored = [warning.text for warning in warnings_in(items) if warning.code == "series.ignored"]
    assert {word for word in ("resliced", "mean") if word in " ".join(ignored)} == {"resliced", "mean"}


def test_a_declared_tr_goes_before_what_the_header_of_one_volume_has(trio: list[Volume], tmp_path: Path) -> None:
    with watch(tmp_path, expected=Expected(tr_s=1.97)) as transport:
        for k in range(3):
            nib.save(image(trio[k], tr_s=1.0), tmp_path / f"f_{k:03d}.nii")
        items = take(transport, until_volumes(3))
    assert [volume.tr_s for volume in volumes(items)] == [1.97] * 3
