"""What comes in between while a run comes, and other echoes of it: the run is undisturbed, the rest is named once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset

from mindsight.scanner.assembly.arrivals import Arrival
from mindsight.scanner.assembly.assemble import Assembler
from mindsight.scanner.assembly.file_contents import read_unit
from mindsight.scanner.assembly.runs import Runs
from mindsight.scanner.transports import Expected, Item
from mindsight.volume import Volume
from support.enhanced_dataset import enhanced_run
from support.slice_files import SLICES, slice_dataset, to_bytes, truth
from support.taking import codes, places, volumes, warnings_in

TIMES_MS = (12.0, 28.0, 44.0)


def assembled(datasets: Iterable[Dataset], **expected: object) -> list[Item]:
    assembler, items = Assembler(Expected(**expected), 3.0), []
    for k, dataset in enumerate(datasets):
        items += assembler.add(Arrival(to_bytes(dataset), 1000.0 + k, k + 1), 0.01 * k)
    return [*items, *assembler.finish()]


def one(volume: int, seed: int = 0, **given: object) -> Dataset:
    """A volume as an enhanced object; its clock is that of ``given``, or of its place in the run."""
    given = {"echoes_ms": (30.0,), "series": "1.2.3", "image_type": None, "clock_s": None, "number": None} | given
    made = enhanced_run(
        [volume],
        instance=given["number"] or volume + 1,
        seed=seed,
        series=given["series"],
        echoes_ms=given["echoes_ms"],
    )
    if given["image_type"]:
        made.ImageType = list(given["image_type"])
    moment_s = 36000.0 + 2.0 * volume if given["clock_s"] is None else given["clock_s"]
    for frame in made.PerFrameFunctionalGroupsSequence:
        content = frame.FrameContentSequence[0]
        content.FrameAcquisitionDateTime = f"2026010110{int(moment_s - 36000) // 60:02d}{moment_s % 60:09.6f}"
    return made


def assert_run(items: list[Item], n: int, seed: int = 0, run: int = 1) -> None:
    got = [volume for volume in volumes(items) if volume.run == run]
    assert [volume.index for volume in got] == list(range(n))
    for volume in got:
        np.testing.assert_array_equal(volume.data, truth(volume.index, seed))


@pytest.mark.parametrize(
    "words",
    [
        ("DERIVED", "PRIMARY", "EPI", "T_MAP"),
        ("ORIGINAL", "PRIMARY", "EPI", "GLM"),
        ("DERIVED", "SECONDARY", "MPR"),
        ("DERIVED", "PRIMARY", "EPI", "NONE"),
        ("ORIGINAL", "PRIMARY", "M", "MEAN"),
    ],
)
def test_two_derived_objects_in_a_row_do_not_end_the_run(words: tuple[str, ...]) -> None:
    maps = [one(k, 9, series="1.2.9", image_type=words, clock_s=36003.0 + k) for k in range(2)]
    items = assembled([one(0), one(1), one(2), *maps, one(3), one(4)])
    assert_run(items, 5)
    assert codes(items) == ["series.ignored"]
    assert {volume.run for volume in volumes(items)} == {1}


def test_runs_that_the_scanner_computed_follow_one_another() -> None:
    words = ("DERIVED", "PRIMARY", "FMRI", "FILTERED")
    first = [one(k, image_type=words) for k in range(3)]
    second = [one(k, 4, image_type=words, series="1.2.4", clock_s=36100.0 + 2 * k) for k in range(3)]
    items = assembled([*first, *second])
    assert_run(items, 3)
    assert_run(items, 3, seed=4, run=2)


def test_an_older_series_sent_again_is_left_and_a_new_run_begins_promptly() -> None:
    old = [one(k, 5, series="1.2.1", clock_s=36000.0 + 2.0 * k) for k in range(3)]
    run = [one(k, series="1.2.3", clock_s=36300.0 + 2.0 * k) for k in range(5)]
    new = [one(k, 7, series="1.2.5", clock_s=36600.0 + 2.0 * k) for k in range(2)]
    items = assembled([*run[:3], *old, *run[3:], *new])
    assert_run(items, 5)
    assert_run(items, 2, seed=7, run=2)
    assert codes(items) == ["series.ignored"]
    assert "older" in warnings_in(items)[0].text


def test_a_run_that_ended_sent_again_does_not_end_the_one_that_comes() -> None:
    first = [one(k, 5, series="1.2.1") for k in range(3)]
    second = [one(k, 6, series="1.2.2", clock_s=36100.0 + 2.0 * k) for k in range(5)]
    items = assembled([*first, *second[:3], *first, *second[3:]])
    assert_run(items, 3, seed=5)
    assert_run(items, 5, seed=6, run=2)
    assert codes(items) == ["volume.after_end"]


def test_objects_of_another_shape_in_between_end_no_run_and_a_run_of_another_shape_does() -> None:
    runs = Runs(Expected(), 3.0)

    def send(series: str, numbers: Iterable[int], shape: tuple[int, int, int], now_s: float) -> list[Item]:
        data = np.zeros(shape, np.int16)
        return [
            item
            for k in numbers
            for item in runs.add(series, k, Volume(data + k, np.eye(4), 2.0, 1, 0), now_s + 2.0 * k)
        ]

    items = send("run", range(3), (4, 4, 3), 0.0)
    items += send("other", range(2), (5, 5, 3), 2.5)
    items += send("run", [3], (4, 4, 3), 0.0)
    assert places(items) == [(1, 0), (1, 1), (1, 2), (1, 3)]
    items = send("next", range(3), (6, 6, 3), 20.0)
    assert places(items) == [(2, 0), (2, 1), (2, 2)]


def echoes(order: Iterable[tuple[int, int]], n: int, **given: object) -> list[Dataset]:
    """Enhanced objects of one echo each, counted through all of them; order : volume and echo."""
    return [one(v, e, echoes_ms=(TIMES_MS[e],), number=v * n + e + 1, **given) for v, e in order]


@pytest.mark.parametrize("choice", [None, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_objects_of_echoes_that_take_turns(choice: int | None, turned: bool) -> None:
    order = [(v, e) for v in range(4) for e in ((2, 0, 1) if turned and v % 2 == 0 else (0, 1, 2))]
    items = assembled(echoes(order, 3), echo=choice)
    assert_run(items, 4, seed=(choice or 1) - 1)
    assert codes(items) == ["series.echoes"]
    assert "left" in warnings_in(items)[0].text


def test_echoes_in_series_of_their_own_are_one_run() -> None:
    order = [(0, 1), (0, 0), (1, 0), (1, 1), (2, 1), (2, 0), (3, 0), (3, 1)]
    made = [one(v, e, echoes_ms=(TIMES_MS[e],), series=f"1.2.{e}") for v, e in order]
    items = assembled(made)
    assert_run(items, 4)
    assert {volume.run for volume in volumes(items)} == {1}


@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("fastest", ["echo", "slice"])
def test_slices_of_echoes_are_never_mixed(numbered: bool, fastest: str) -> None:
    made = []
    for v in range(3):
        pairs = [(e, s) for s in range(SLICES) for e in range(2)]
        pairs = pairs if fastest == "echo" else sorted(pairs)
        made += [
            slice_dataset(
                v,
                s,
                instance=2 * SLICES * v + k + 1,
                seed=e,
                echo=e + 1,
                echo_ms=TIMES_MS[e],
                temporal=v + 1 if numbered else None,
                images=SLICES,
            )
            for k, (e, s) in enumerate(pairs)
        ]
    items = assembled(made)
    assert_run(items, 3)
    assert codes(items) == ["series.echoes"]


def test_only_the_second_echo_was_sent() -> None:
    made = [
        slice_dataset(v, s, instance=SLICES * v + s + 1, echo=2, temporal=v + 1, images=SLICES)
        for v in range(6)
        for s in range(SLICES)
    ]
    assert_run(assembled(made), 6)


def test_an_echo_that_does_not_come_is_named() -> None:
    items = assembled(echoes([(v, e) for v in range(3) for e in range(2)], 2), echo=3)
    assert volumes(items) == []
    assert any("expected echo 3, got" in warning.text for warning in warnings_in(items))


def test_echoes_are_combined_as_the_reader_of_folders_does(tmp_path) -> None:
    from mindsight.scanner import open_series

    order = [(v, e) for v in range(4) for e in ((1, 0) if v == 2 else (0, 1))]
    made = echoes(order, 2)
    for k, dataset in enumerate(made):
        (tmp_path / f"{k}.dcm").write_bytes(to_bytes(dataset))
    items = assembled(made, echo="combine")
    series = open_series(tmp_path, echo="combine")
    assert [volume.index for volume in volumes(items)] == [0, 1, 2, 3]
    for live, replayed in zip(volumes(items), series, strict=True):
        np.testing.assert_array_equal(live.data, replayed.data)
    assert codes(items) == ["series.echoes"]
    assert warnings_in(items)[0].text in series.notes


def test_a_volume_whose_echo_is_missing_is_missing() -> None:
    order = [(v, e) for v in range(6) for e in range(2) if (v, e) != (2, 1)]
    items = assembled(echoes(order, 2), echo="combine")
    assert [volume.index for volume in volumes(items)] == [0, 1, 3, 4, 5]
    assert [warning.index for warning in warnings_in(items) if warning.missing] == [2]
    assert "echoes.incomplete" in codes(items)


def test_one_echo_is_not_combined() -> None:
    items = assembled([one(k) for k in range(3)], echo="combine")
    assert volumes(items) == []
    assert codes(items) == ["echoes.one"]


def plain(series: str, value: int, number: int) -> Volume:
    return Volume(np.full((4, 4, 3), value, np.int16), np.eye(4), 2.0, 1, 0)


@pytest.mark.parametrize("expected", [Expected(), Expected(n_volumes=4)])
def test_numbers_that_restart_with_other_voxels_are_another_run(expected: Expected) -> None:
    runs, items = Runs(expected, 1.0), []
    for start in (100, 200, 300):
        for k in range(4):
            items += runs.add("one for all", k, plain("", start + k, k), 0.0)
    items += runs.finish()
    got = [(volume.run, volume.index, int(volume.data[0, 0, 0])) for volume in volumes(items)]
    assert got == [(run, k, 100 * run + k) for run in (1, 2, 3) for k in range(4)]


def test_the_same_voxels_again_are_doubles() -> None:
    runs, items = Runs(Expected(), 1.0), []
    for _ in range(2):
        for k in range(4):
            items += runs.add("a", k, plain("", 100 + k, k), 0.0)
    assert places(items) == [(1, 0), (1, 1), (1, 2), (1, 3)]
    assert set(codes(items)) == {"volume.doubled"}


def test_a_run_without_a_series_uid_beside_a_scout_without_one() -> None:
    scout = one(0, 8, series="", number=1)
    scout.RepetitionTime = 500.0
    made = [one(k, series="") for k in range(3)]
    assert_run(assembled([scout, *made]), 3)


def from_files(folder: Path, **expected: object) -> list[Item]:
    assembler, items = Assembler(Expected(tr_s=2.0, **expected), 3.0), []
    for k, path in enumerate(sorted(folder.iterdir())):
        for content in read_unit(str(path), 2.0):
            items += assembler.add(Arrival(content, 1000.0 + k, k + 1), 0.01 * k)
    return [*items, *assembler.finish()]


def write_nifti(path: Path, data: np.ndarray) -> None:
    image = nib.Nifti1Image(data.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.0
    image.to_filename(path)


@pytest.mark.parametrize(
    "pattern", ["Doe_{:04d}_e{}.nii", "fDoe-0007-{0:05d}-{0:06d}-{1:02d}.nii", "echo-{1}_{0:03d}.nii"]
)
@pytest.mark.parametrize("choice", [None, 2])
def test_files_of_single_volumes_state_their_echo_by_their_names(
    pattern: str, choice: int | None, tmp_path: Path
) -> None:
    for k in range(1, 5):
        for echo in (1, 2):
            write_nifti(tmp_path / pattern.format(k, echo), np.full((4, 4, 3), 100 * echo + k))
    items = from_files(tmp_path, echo=choice)
    assert [float(one.data[0, 0, 0]) for one in volumes(items)] == [100 * (choice or 1) + k for k in range(1, 5)]
    assert {one.run for one in volumes(items)} == {1}


def test_whole_runs_of_several_echoes_are_one_run(tmp_path: Path) -> None:
    for echo in (1, 2):
        data = np.stack([np.full((4, 4, 3), 100 * echo + k) for k in range(3)], -1)
        write_nifti(tmp_path / f"sub-1_task-a_echo-{echo}_bold.nii", data)
    for choice in (None, 2):
        items = from_files(tmp_path, echo=choice)
        got = [float(one.data[0, 0, 0]) for one in volumes(items)]
        assert got == [100 * (choice or 1) + k for k in range(3)]
