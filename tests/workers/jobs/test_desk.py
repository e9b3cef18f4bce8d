"""How far a job has come: at most once a second, but a short step too says how long it takes."""

from __future__ import annotations

import time

from mindsight.bus import Lease
from mindsight.journal.jobs import Jobs
from mindsight.protocol.jobs import JobProgress, JobRecord, PoolTask
from support.house import House
from workers.jobs.desk import Desk, lease_name


def test_a_step_says_its_first_pace_at_once_and_then_once_a_second(house: House) -> None:
    now_s = 100.0
    record = Jobs(house.bus, time.time).create(
        JobRecord(job="job-a", task=PoolTask(pool="pool", folder="scenes"), created_t=1.0)
    )
    lease = Lease.acquire(house.bus, lease_name(record), "test", 30.0)
    assert lease is not None
    desk = Desk(house.settings, house.bus, record, lease, clock=lambda: now_s)
    for done in (0, 0, 20, 40, 60, 80):  # ended early, within half a second: no step is the last of 200
        desk.progress("steps", done, 200)
        now_s += 0.1
    for done in (0, 1, 2):
        desk.progress("runs", done, 2)
        now_s += 0.1
    desk.progress("images", 5, None)
    desk.progress("images", 6, None)
    told = [m for m in Jobs(house.bus, time.time).messages("job-a") if isinstance(m, JobProgress)]
    assert [(m.step, m.done, m.left_s) for m in told] == [
        ("steps", 0, None),
        ("steps", 20, 1.8),
        ("runs", 0, None),
        ("runs", 1, 0.1),
        ("runs", 2, 0.0),
        ("images", 5, None),
        ("images", 6, None),
    ]
