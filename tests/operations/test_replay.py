"""Replay of a real run: causal, at the pace that was asked for, and clear about what it cannot do."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mindsight.errors import BadVolume, ModelMismatch, StorageFull
from mindsight.events import RunEvent
from mindsight.operations.replay import number_trials, replay, replay_results
from mindsight.scanner import open_run
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.linear_bundle import calibrate_linear

LAST = 60


def ticks() -> Callable[[], float]:
    """A clock that moves on by a millisecond each time it is read."""
    milliseconds = count()
    return lambda: 1e-3 * next(milliseconds)


def no_sleep(seconds: float) -> None:
    raise AssertionError(f"slept {seconds} s")


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "data" / "haxby2001" / "run-004"


@pytest.fixture(scope="module")
def bundle(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = [shared / "data" / "haxby2001" / f"run-{number:03d}" for number in (1, 2, 3)]
    made = calibrate_linear(runs, "trial_type", "sub-01", datetime(2025, 1, 1, tzinfo=UTC))
    folder = made.save(tmp_path_factory.mktemp("bundles") / "bundle").folder
    assert folder is not None
    return folder


def altered(folder: Path, to: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    """A copy of the run with other voxel values."""
    to.mkdir()
    image = nib.load(folder / "bold.nii.gz")
    nib.save(
        nib.Nifti1Image(change(np.asanyarray(image.dataobj).copy()), image.affine, image.header), to / "bold.nii.gz"
    )
    for name in ("events.tsv", "motion.txt"):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


def lines_of(folder: Path, bundle: Path, results: Path) -> list[str]:
    replay(folder, bundle, speed=math.inf, results=results, clock=ticks(), sleep=no_sleep)
    return results.read_text().splitlines()


@pytest.fixture(scope="module")
def once(folder: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return lines_of(folder, bundle, tmp_path_factory.mktemp("once") / "results")


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(folder: Path, bundle: Path, tmp_path: Path, once: list[str]) -> None:
    assert lines_of(folder, bundle, tmp_path / "again") == once
    assert len(once) == 24


@pytest.mark.slow
def test_no_volume_changes_earlier_results(folder: Path, bundle: Path, tmp_path: Path, once: list[str]) -> None:
    def scramble(data_XYZT: np.ndarray) -> np.ndarray:
        later = data_XYZT[..., LAST:]
        later[:] = np.random.default_rng(0).permuted(later, axis=0)
        return data_XYZT

    other = altered(folder, tmp_path / folder.name, scramble)
    found = lines_of(other, bundle, tmp_path / "results")
    before = [line for line in once if json.loads(line)["n_volumes"] <= LAST]
    assert len(before) >= 7
    assert found[: len(before)] == before
    assert all(line not in once for line in found[len(before) :])


def test_final_results_come_after_the_last_volume(once: list[str]) -> None:
    stages = [json.loads(line)["stage"] for line in once]
    assert stages[-8:] == ["final"] * 8
    assert "final" not in stages[:-8]


def test_a_missing_volume_flags_the_trial_it_fell_into_and_no_other(folder: Path, bundle: Path) -> None:
    recorded = open_run(folder, 4)
    there = [volume for volume in recorded.volumes() if volume.index != LAST]
    gappy = replace(recorded, series=replace(recorded.series, _volumes=lambda _: iter(there)))
    found = list(replay_results(gappy, Bundle.load(bundle), speed=math.inf, clock=ticks(), sleep=no_sleep))
    assert len(found) == 24
    hit = [answer for answer in found if answer.stage == "final" and answer.flagged]
    assert [answer.trial for answer in hit] == [4]
    assert hit[0].onset_s <= LAST * recorded.tr_s <= hit[0].onset_s + 22.5 + 12.0
    assert hit[0].n_volumes == 120


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_volumes_come_at_the_pace_of_the_run(folder: Path, bundle: Path, speed: float) -> None:
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        assert seconds > 0
        now_s[0] += seconds

    summary = replay(folder, bundle, speed=speed, results=None, clock=lambda: now_s[0], sleep=sleep)
    assert summary.seconds == pytest.approx(121 * 2.5 / speed)
    assert (summary.run, summary.n_volumes, summary.n_results) == (4, 121, 24)
    assert str(summary).splitlines()[-1].startswith("   final: ")


def test_a_tampered_bundle_is_refused(folder: Path, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    weights = copy / "decoder.safetensors"
    content = bytearray(weights.read_bytes())
    content[-8] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelMismatch) as error:
        lines_of(folder, copy, tmp_path / "results")
    assert error.value.code == "bundle.tampered"
    assert not (tmp_path / "results").exists()


def test_another_grid_and_a_place_that_cannot_be_written(folder: Path, bundle: Path, tmp_path: Path) -> None:
    smaller = altered(folder, tmp_path / folder.name, lambda data_XYZT: data_XYZT[:30])
    with pytest.raises(BadVolume, match="shape"):
        lines_of(smaller, bundle, tmp_path / "results")
    with pytest.raises(StorageFull, match="results"):
        lines_of(folder, bundle, tmp_path / "nowhere" / "results")


def test_trials_are_the_events_that_say_what_was_shown() -> None:
    events = [RunEvent(0.0, 3.0, "face", "a.png"), RunEvent(4.0, 3.0, None, None), RunEvent(8.0, 3.0, "house", None)]
    by_kind = number_trials(events, "trial_type")
    assert [event.trial for event in by_kind.events] == [1, None, 2]
    assert by_kind.labels == {1: "face", 2: "house"}
    assert by_kind.onsets_s == {1: 0.0, 2: 8.0}
    assert number_trials(events, None).labels == {1: "a.png"}
    blind = number_trials([RunEvent(0.0, 3.0), RunEvent(4.0, 3.0)], "trial_type")
    assert [event.trial for event in blind.events] == [1, 2]
    assert blind.labels == {}
