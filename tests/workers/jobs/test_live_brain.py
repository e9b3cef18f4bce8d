"""A real brain (Haxby et al. 2001), calibrated while it is scanned by a session that knows nothing of the design."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import pytest

from mindsight.accuracy import Accuracy
from mindsight.decoding import TrialDecoder
from mindsight.events import declare
from mindsight.protocol.inputs import AddEvent, SessionOptions, StartRun
from mindsight.scanner import open_run
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.folder import Bundle
from support.house import House
from support.live_visit import Visit
from training.calibration.fits import live_betas
from training.calibration.runs import LabelledRun, open_labelled_runs


def stream(visit: Visit, folder: Path, run: int) -> None:
    recorded, recorder, now = open_run(folder, run), visit.recorder, time.time()
    motion = None if recorded.motion_T6 is None else "unknown"
    recorder.start_run(
        StartRun(t=now, run=run, task="view", tr_s=recorded.tr_s, n_volumes=recorded.n_volumes, motion=motion)
    )
    events = [asdict(event) for event in declare(recorded.events).events]
    named = set(AddEvent.model_fields) - {"occurrence"}
    recorder.add_events(run, [AddEvent(t=now, run=run, **{k: e[k] for k in named & set(e)}) for e in events])
    for volume in recorded.volumes():
        visit.house.put(recorder, volume)
    recorder.end_run(run)
    visit.ingest()


def decoded(bundle: Bundle, runs: list[LabelledRun]) -> dict[Stage, Accuracy]:
    """Of each stage, as a session with this bundle decodes the runs."""
    decoder = TrialDecoder(bundle, clock=time.perf_counter)
    hits: dict[Stage, list[bool]] = {stage: [] for stage in STAGES}
    for trial in live_betas(bundle, runs):
        beta = trial.beta
        found = decoder.retrieve(beta.beta_V, beta.mean_V, beta.std_V, stage=beta.stage, n_run=beta.n_run)
        hits[beta.stage].append(found.candidates[0].id == trial.label)
    return {stage: Accuracy.of(each, 1.0 / len(bundle.pool)) for stage, each in hits.items()}


@pytest.mark.slow
def test_sessions_after_a_calibration_decode_with_betas_as_they_were_chosen(house: House, shared: Path) -> None:
    folders = [shared / "data" / "haxby2001" / f"run-{run:03d}" for run in range(1, 10)]
    visit = Visit(house, SessionOptions(normalise="run"))
    visit.follow()
    for run, folder in enumerate(folders[:6], 1):
        stream(visit, folder, run)
    said = visit.end(archives=True)
    assert isinstance(said, str), said
    *_, live, again = visit.versions
    assert again.source == "ses-a, estimated again"
    runs, _ = open_labelled_runs(folders, "trial_type")
    finals = []
    for version in (live, again):
        found = decoded(Bundle.load(house.settings.bundles_dir / version.bundle), runs[6:])
        print(f"version {version.number}, {version.source}: {version.verdict}")
        for stage, accuracy in found.items():
            print(f"  runs 7 to 9, {stage}: {accuracy}")
        finals.append(found["final"])
    assert (finals[1].n, finals[1].interval[0] > 0.5) == (24, True)
    assert finals[1].value > finals[0].value + 0.2
