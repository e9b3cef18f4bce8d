"""Calibrations with a backbone that subjects share: from archived sessions, with runs that are kept, or not at all."""

from __future__ import annotations

import time

import numpy as np
import pytest

from mindsight import assets
from mindsight.bus import Lease
from mindsight.errors import ModelMismatch
from mindsight.journal.jobs import Jobs, log_name
from mindsight.protocol.jobs import CalibrationTask, JobRecord
from mindsight.retrieval import CandidatePool
from mindsight.subjects.bundle.folder import Bundle
from mindsight.subjects.registry import Registry
from support.house import House
from support.two_sides import CONSENT, SidesRun, archived_session
from workers.jobs.calibration import calibrate
from workers.jobs.desk import Desk

BACKBONE = assets.ENCODER.parent / "mindeye2"


def job_of(house: House, pool: CandidatePool) -> tuple[Desk, CalibrationTask]:
    """Of a subject with an archived session of two runs, which show the pool's first candidates twice each."""
    house.settings.backbone_dir = BACKBONE
    subject = Registry(house.settings.subjects_dir).enrol(1.0, consent=CONSENT).subject
    labels = [f"{side}-{i}" for i in range(3) for side in ("left", "right")] * 2
    shown = dict(zip(labels, pool.ids * 3, strict=False))
    runs = [SidesRun(run, labels=tuple(labels)) for run in (1, 2)]
    archived_session(house, subject, "ses-a", runs, shown)
    pool.save(house.settings.pools_dir / "pool")
    task = CalibrationTask(subject=subject, sessions=("ses-a",), pool="pool")
    record = Jobs(house.bus, time.time).create(JobRecord(job="job-a", task=task, created_t=1.0))
    lease = Lease.acquire(house.bus, log_name("job-a"), "test", 60.0)
    assert lease is not None
    return Desk(house.settings, house.bus, record, lease), task


@pytest.mark.slow
def test_archived_runs_are_fitted_to_the_backbone_and_kept(house: House) -> None:
    desk, task = job_of(house, CandidatePool.load(assets.BUNDLE / "pool"))
    assert calibrate(desk, task) == "version 1: the first version"
    bundle = Bundle.load(house.settings.bundles_dir / f"{task.subject}.v1")
    assert (bundle.kind, len(bundle.pool)) == ("mindeye2", 100)
    assert {path.name for path in desk.scratch.glob("run-*")} == {"run-001.safetensors", "run-002.safetensors"}
    assert calibrate(desk, task) == "version 1: the first version", "a job that goes on makes no second one"
    desk.versions.erase(task.subject)  # as if the process had ended just before it was listed
    assert calibrate(desk, task) == "version 1: the first version"


@pytest.mark.slow
def test_a_pool_of_another_encoder_is_refused_before_a_run_is_read(house: House) -> None:
    other = CandidatePool(("a", "b"), np.eye(2, 48, dtype=np.float32))
    desk, task = job_of(house, other)
    with pytest.raises(ModelMismatch, match="encoder") as refused:
        calibrate(desk, task)
    assert refused.value.code == "pool.query_shape"
    assert list(desk.jobs.messages("job-a")) == []
