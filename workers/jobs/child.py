"""``python -m workers.jobs.child JOB HOLDER TOKEN``: the process of one job. The worker starts it, and holds the lease.

Whatever ends it, the next one goes on from the job's scratch folder.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback

from mindsight.bus import MAX_DELIVERIES, Bus, Fence, Lease
from mindsight.errors import LeaseLost, MindsightError
from mindsight.journal.jobs import Jobs
from mindsight.printing import outlive_full_logs
from mindsight.processes import end_with_parent
from mindsight.protocol.jobs import CalibrationTask, ErasureTask, PoolTask, SimulationTask
from mindsight.settings import Settings, read_settings
from workers.jobs.desk import Desk, lease_name
from workers.jobs.worker import LATER, LEASE_S, REFUSED
from workers.process import BUS_DEADLINE_S, NICE


def carry_out(desk: Desk) -> str:
    """Do the job; what was done, in words. What each kind needs is imported with it."""
    task = desk.record.task
    match task:
        case CalibrationTask():
            from workers.jobs.calibration import calibrate

            return calibrate(desk, task)
        case PoolTask():
            from workers.jobs.pool import build

            return build(desk, task)
        case ErasureTask():
            from workers.jobs.erasure import erase

            return erase(desk, task)
        case SimulationTask():
            from workers.jobs.simulation import simulate

            return simulate(desk, task)


def lead(settings: Settings, job: str, holder: str, token: int) -> int:
    """Exit code: 0 done, REFUSED failed and reported, LATER the machinery failed."""
    bus = Bus.from_settings(settings)
    bus.wait_ready(BUS_DEADLINE_S)
    jobs = Jobs(bus, time.time)
    record = jobs.get(job)
    lease = Lease(bus, lease_name(record), holder, LEASE_S, Fence(lease_name(record), token))
    desk = Desk(settings, bus, record, lease)
    try:
        text = carry_out(desk)
        jobs.finish(record, "done", text, fence=lease.fence)
        if isinstance(record.task, ErasureTask):
            jobs.redact(record)
    except LeaseLost:
        return LATER
    except MindsightError as error:
        if error.is_transient:
            print(f"jobs: {job}: {error}", file=sys.stderr, flush=True)
            return LATER
        jobs.finish(record, "failed", str(error), error.code, lease.fence)
        return REFUSED
    shutil.rmtree(settings.jobs_dir / job, ignore_errors=True)
    return 0


def main() -> int:
    if len(sys.argv) != 4:
        print("usage: python -m workers.jobs.child JOB HOLDER TOKEN", file=sys.stderr)
        return 2
    outlive_full_logs()
    end_with_parent()
    os.nice(NICE)
    job, holder, token = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        return lead(read_settings(), job, holder, token)
    except MindsightError as error:
        print(f"jobs: {job}: {error}", file=sys.stderr, flush=True)
        return LATER
    except Exception:
        print(f"jobs: {job} is tried {MAX_DELIVERIES} times at most, after this fault:", file=sys.stderr)
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(main())
