from __future__ import annotations

from typing import Annotated

import typer

from mindsight.cli.options import Key, To

job_app = typer.Typer(help="Jobs of the service: calibrations, pools, erasures.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="the job's id")]


@job_app.command("list")
def list_jobs(to: To = "", key: Key = "") -> None:
    """Print all jobs and their state."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        for job in service.jobs():
            task = job["task"]
            typer.echo(f"{job['job']}  {task['kind']} {task.get('subject') or task.get('pool') or ''}  {job['state']}")


@job_app.command("watch")
def watch(job: JobId, to: To = "", key: Key = "") -> None:
    """Print what a job reports, from its beginning to its end."""
    from mindsight.cli.service import enrolment, follow

    with enrolment(to, key) as service:
        follow(service, job)


@job_app.command("cancel")
def cancel(job: JobId, to: To = "", key: Key = "") -> None:
    """Cancel a job. What it has made so far stays."""
    from mindsight.cli.service import enrolment

    with enrolment(to, key) as service:
        service.cancel(job)


@job_app.command("resume")
def resume(job: JobId, to: To = "", key: Key = "") -> None:
    """Let a job go on that failed or was cancelled, and follow it."""
    from mindsight.cli.service import enrolment, follow

    with enrolment(to, key) as service:
        service.resume(job)
        follow(service, job)
