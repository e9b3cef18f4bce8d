from __future__ import annotations

from typing import Annotated, Any

import typer

from mindsight.cli.options import Key, To
from mindsight.cli.style import JOB_FAILED, JOB_STOPPED, AsJson, example, show_rows

job_app = typer.Typer(help="Jobs of the service: calibrations, pools, erasures.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="the job's id")]


@job_app.command("list", epilog=example("mindsight job list"))
def list_jobs(to: To = "", key: Key = "", as_json: AsJson = False) -> None:
    """Print all jobs and their state."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        found = service.jobs()
    rows = [(job["job"], job["task"]["kind"], _of(job["task"]), job["state"]) for job in found]
    show_rows(("job", "kind", "of", "state"), rows, found, as_json, "no jobs")


@job_app.command("watch", epilog=example("mindsight job watch job-1a2b3c4d", failed=JOB_FAILED, stopped=JOB_STOPPED))
def watch(job: JobId, to: To = "", key: Key = "") -> None:
    """Print what a job reports, from its beginning to its end."""
    from mindsight.cli.service import enrolment, follow

    with enrolment(to, key) as service:
        follow(service, job)


@job_app.command("cancel", epilog=example("mindsight job cancel job-1a2b3c4d"))
def cancel(job: JobId, to: To = "", key: Key = "") -> None:
    """Cancel a job. What it has made so far stays."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        service.cancel(job)


@job_app.command("resume", epilog=example("mindsight job resume job-1a2b3c4d", failed=JOB_FAILED, stopped=JOB_STOPPED))
def resume(job: JobId, to: To = "", key: Key = "") -> None:
    """Let a job go on that failed or was cancelled, and follow it."""
    from mindsight.cli.service import enrolment, follow

    with enrolment(to, key) as service:
        service.resume(job)
        follow(service, job)


def _of(task: dict[str, Any]) -> str:
    return task.get("subject") or task.get("pool") or task.get("session") or ""
