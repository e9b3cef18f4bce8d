"""Gradient steps in a calibration: after a version in closed form, killed and gone on with, kept if better."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from mindsight import assets
from mindsight.bus import Lease
from mindsight.journal.jobs import Jobs, log_name
from mindsight.protocol.jobs import CalibrationTask, JobMessage, JobNote, JobProgress, JobRecord, JobTuned, VersionMade
from mindsight.retrieval import CandidatePool
from mindsight.subjects.registry import Registry
from mindsight.subjects.versions import Version
from support.house import House
from support.invented_visit import DIM, N_TOKENS, run_of, stimuli
from support.jobs_worker import create, finished, until, working
from support.two_sides import CONSENT, SidesRun, archived_session
from support.whole_service import child_of
from training.calibration import ranked
from training.calibration.archived import open_archived
from training.calibration.gradient import Recipe
from training.calibration.linear_bundle import space_of
from training.calibration.visit_runs import keep_run
from workers.jobs import archived as archived_module
from workers.jobs import worker as worker_module
from workers.jobs.calibration import calibrate
from workers.jobs.desk import Desk, version_store

pytestmark = pytest.mark.slow

LABELS = tuple(f"{side}-{i}" for i in range(6) for side in ("left", "right"))


def scanned(house: House, pool: CandidatePool) -> CalibrationTask:
    """A subject with an archived session of two runs, each of which shows the pool's first 12 images."""
    subject = Registry(house.settings.subjects_dir).enrol(1.0, consent=CONSENT).subject
    runs = [SidesRun(run, labels=LABELS) for run in (1, 2)]
    archived_session(house, subject, "ses-a", runs, dict(zip(LABELS, pool.ids, strict=False)))
    pool.save(house.settings.pools_dir / "pool")
    return CalibrationTask(subject=subject, sessions=("ses-a",), pool="pool", fine_tuning=True)


def tuned(messages: list[JobMessage]) -> list[tuple[int, float | None]]:
    return [(message.steps, message.loss) for message in messages if isinstance(message, JobTuned)]


def versions(house: House, task: CalibrationTask) -> tuple[Version, ...]:
    return version_store(house.settings).read(task.subject).versions


def test_a_killed_fine_tuning_goes_on_with_the_same_losses(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "RENEW_S", 0.2)
    house.settings.backbone_dir = assets.ENCODER.parent / "mindeye2"
    task = scanned(house, CandidatePool.load(assets.BUNDLE / "pool"))
    jobs = Jobs(house.bus, time.time)
    with working(house, monkeypatch):
        create(house, task, "job-a")
        until(house, "job-a", lambda _: len(tuned(list(jobs.messages("job-a")))) >= 2)
        (version,) = versions(house, task)
        held = version_store(house.settings).read(task.subject)
        assert held.active == version, "the closed form decodes while steps are made"
        pid = child_of(os.getpid(), "job-a")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert until(house, "job-a", finished, 180.0).state == "done"
        create(house, task, "job-b")
        assert until(house, "job-b", finished, 180.0).state == "done"
    killed, whole = list(jobs.messages("job-a")), list(jobs.messages("job-b"))
    print(tuned(killed))
    assert tuned(killed) == tuned(whole)
    assert len(tuned(killed)) >= 5
    assert any(isinstance(m, JobProgress) and m.step == "fine-tuning" and m.left_s is not None for m in killed)
    assert [version.source for version in versions(house, task) if version.job == "job-a"][:1] == ["archived"]
    if len([version for version in versions(house, task) if version.job == "job-a"]) == 1:
        assert [m.code for m in killed if isinstance(m, JobNote) and m.code == "calibration.no_gain"]


def test_steps_that_make_it_better_give_the_next_version(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A backbone with random weights, which steps make better; an invented participant, whose betas the job has."""
    import torch

    from mindsight.decoders.mindeye2 import Layout, MindEye2
    from mindsight.weights.artefact import write_artefact
    from training.pretraining.demo_decoder import shared_weights

    with torch.random.fork_rng():
        torch.manual_seed(0)
        layout = Layout(voxels=(N_TOKENS * DIM,), hidden=16, tokens=N_TOKENS, dim=DIM, n_blocks=1)
        write_artefact(tmp_path / "random", "mindeye2", {}, shared_weights(MindEye2(layout)))
    house.settings.backbone_dir = tmp_path / "random"
    monkeypatch.setattr(ranked, "MAX_LINEAR", 0)  # a linear decoder would rank better than random weights after steps
    recipe = Recipe(steps=60, batch=24, learning_rate=5e-3, look_every=20)
    monkeypatch.setattr(archived_module, "Recipe", lambda: recipe)
    pool = stimuli()
    task = scanned(house, pool)
    jobs = Jobs(house.bus, time.time)
    record = jobs.create(JobRecord(job="job-a", task=task, created_t=1.0))
    lease = Lease.acquire(house.bus, log_name("job-a"), "test", 60.0)
    assert lease is not None
    desk = Desk(house.settings, house.bus, record, lease)
    found = open_archived([house.settings.archive_dir / f"{task.subject}_ses-a"], pool)
    n_voxels = space_of(found.runs[0].recorded).n_voxels
    for number in (1, 2):
        run = run_of(pool, number, n_trials=100, repeats=20, noise=0.3, n_voxels=n_voxels)
        keep_run(run, desk.scratch / f"run-{number:03d}.safetensors")
    said = calibrate(desk, task)
    assert said.startswith("version 2: better than the version before, on trials left out of both")
    first, second = versions(house, task)
    held = version_store(house.settings).read(task.subject)
    assert (first.source, second.source, held.activated) == ("archived", "archived, fine-tuned", (1, 2))
    messages = list(jobs.messages("job-a"))
    made = [i for i, message in enumerate(messages) if isinstance(message, VersionMade)]
    looks = [i for i, message in enumerate(messages) if isinstance(message, JobTuned)]
    assert made[0] < looks[0] < looks[-1] < made[1]
    assert [steps for steps, _ in tuned(messages)] == [0, 20, 40, 60]
    assert calibrate(desk, task) == said, "a job that goes on makes no third one"
    assert len(versions(house, task)) == 2
