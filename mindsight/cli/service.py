"""Commands that talk to the running service: where it is, and a job followed to its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from mindsight.cli.style import STOPPED
from mindsight.progress import time_of

if TYPE_CHECKING:
    from mindsight.client.enrolment import Enrolment
    from mindsight.client.service import Service
    from mindsight.protocol.jobs import JobMessage


def enrolment(to: str, key: str) -> Enrolment:
    """A client of the gateway at ``to``, or of the one on this machine's data folder."""
    from mindsight.client.enrolment import Enrolment

    return Enrolment(*_asked(to, key))


def sessions(to: str, key: str) -> Service:
    """The same for its sessions."""
    from mindsight.client.service import Service

    return Service(*_asked(to, key))


def _asked(to: str, key: str) -> tuple[str, str]:
    """Address and key. Raises BadRequest (``cli.key``) without a key."""
    from mindsight.client.address import gateway_url
    from mindsight.errors import BadRequest
    from mindsight.settings import read_settings

    url = to or gateway_url(read_settings().data_dir)
    if not key:
        raise BadRequest(
            "expected a key: set MINDSIGHT_KEY, or pass --key (mindsight key new makes one)", code="cli.key"
        )
    return url, key


def follow(service: Enrolment, job: str) -> None:
    """Print what the job reports until it has ended. Ctrl-C stops the printing, not the job.

    Raises typer.Exit: 1 if it failed or was cancelled, 130 after Ctrl-C.
    """
    outcome = None
    try:
        for message in service.follow(job):
            outcome = getattr(message, "outcome", None)
            line = line_of(message)
            if line is not None:
                print(line, file=sys.stderr if outcome in ("failed", "cancelled") else sys.stdout, flush=True)
    except KeyboardInterrupt:
        print(f"the job goes on; see it with: mindsight job watch {job}; end it with: mindsight job cancel {job}")
        raise typer.Exit(STOPPED) from None
    if outcome != "done":
        raise typer.Exit(1)


def line_of(message: JobMessage) -> str | None:
    """One message as a line; None for one that says nothing new."""
    from mindsight.protocol.jobs import JobBegan, JobEnded, JobLearned, JobNote, JobProgress, JobTuned, VersionMade

    match message:
        case JobBegan():
            return f"{message.job} began"
        case JobProgress():
            of = "" if message.n is None else f" of {message.n}"
            left = "" if message.left_s is None or message.done == message.n else f", {time_of(message.left_s)} left"
            return f"{message.step}: {message.done}{of}{left}"
        case JobNote():
            return f"{message.text} [{message.code}]"
        case JobLearned():
            minutes = "" if message.minutes is None else f", {message.minutes:.1f} min of scanning"
            return (
                f"{message.n_trials} trials in {message.n_runs} runs{minutes}: held-out accuracy"
                f" {message.accuracy:.1%} (n {message.n}, 95 % interval {message.low:.1%} to {message.high:.1%}, chance"
                f" {message.chance:.1%})"
            )
        case JobTuned():
            loss = "not finite" if message.loss is None else f"{message.loss:.3f}"
            return f"{message.steps} gradient steps: loss of held-out images {loss}"
        case VersionMade():
            return f"version {message.version} ({'active' if message.active else 'not active'}): {message.text}"
        case JobEnded():
            code = "" if message.code is None else f" [{message.code}]"
            return f"{message.outcome}: {message.text}{code}"
