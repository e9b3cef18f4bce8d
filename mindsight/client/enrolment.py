"""Subjects, their calibrations and the versions of their bundles, at a gateway. Knows nothing of scanners."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mindsight.client.http import Http
from mindsight.errors import BadRequest, DeadlineExceeded
from mindsight.protocol.jobs import JobEnded, JobMessage, parse_job_message
from mindsight.shares import Report, unreported

LOOK_S = 0.5
SILENCE_S = 3600.0  # of a job without any message, until following it gives up
_SUFFIXES = {".png", ".jpg", ".jpeg"}


class Enrolment:
    """Requests about subjects.

    url, key : of the gateway; most need the scope subjects:write, an export subjects:export, an erasure admin
    deadline_s : seconds for which a request is repeated while the gateway does not answer

    Every method raises ServiceUnavailable after the deadline, NotAllowed, and the gateway's own errors.
    """

    def __init__(self, url: str, key: str, *, deadline_s: float = 30.0) -> None:
        self._http = Http(url, key, deadline_s)

    def __enter__(self) -> Enrolment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def enrol(self, consent: Mapping[str, Any] | None = None) -> str:
        """Enrol a subject; returns the pseudonym. consent : see ``subjects.registry.Consent``"""
        subject: str = self._http.call("POST", "/v1/subjects", json={"consent": consent})["subject"]
        return subject

    def subjects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.call("GET", "/v1/subjects")
        return found

    def subject(self, subject: str) -> dict[str, Any]:
        found: dict[str, Any] = self._http.call("GET", f"/v1/subjects/{subject}")
        return found

    def state_consent(self, subject: str, consent: Mapping[str, Any]) -> None:
        """State what the subject has agreed to, in place of what was stated before."""
        self._http.call("PUT", f"/v1/subjects/{subject}/consent", json=consent)

    def erase(self, subject: str) -> str:
        """Erase the subject, as a job; returns the job."""
        job: str = self._http.call("DELETE", f"/v1/subjects/{subject}")["job"]
        return job

    def erase_session(self, session: str) -> str:
        """Erase an archived session, as a job; returns the job. Bundles calibrated from it go, its subject stays."""
        job: str = self._http.call("DELETE", f"/v1/sessions/{session}")["job"]
        return job

    def calibrate(
        self,
        subject: str,
        sessions: Sequence[str] = (),
        *,
        live: str | None = None,
        pool: str | None = None,
        fine_tuning: bool = False,
        activate: str = "better",
        job: str | None = None,
    ) -> str:
        """Start a calibration; returns the job.

        sessions : archived ones; with neither these nor ``live``, all that are archived
        live : a session that was opened with calibration=true
        job : an id of your own makes the request safe to repeat
        """
        body: dict[str, Any] = {"sessions": list(sessions), "live": live, "pool": pool, "activate": activate}
        body["fine_tuning"] = fine_tuning
        body["job"] = job or f"job-{secrets.token_hex(4)}"
        started: str = self._http.call("POST", f"/v1/subjects/{subject}/calibrations", json=body)["job"]
        return started

    def build_pool(self, pool: str, folder: Path) -> str:
        """Upload the PNG and JPEG files of a folder and build a pool of them; returns the job.

        A candidate's id is the name of its file without the suffix. Raises BadRequest (``pictures.none``).
        """
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
        if not files:
            raise BadRequest("expected a folder with PNG or JPEG files, got none", code="pictures.none")
        images = []
        for path in files:
            digest = self._http.call("POST", "/v1/images", content=path.read_bytes())["digest"]
            images.append({"id": path.stem, "image": digest})
        body = {"pool": pool, "images": images, "job": f"job-{secrets.token_hex(4)}"}
        started: str = self._http.call("POST", "/v1/pools", json=body)["job"]
        return started

    def versions(self, subject: str) -> dict[str, Any]:
        """All versions of the subject's bundle; the last number in ``activated`` is the active one."""
        found: dict[str, Any] = self._http.call("GET", f"/v1/subjects/{subject}/bundles")
        return found

    def activate(self, subject: str, number: int) -> str:
        """Decode the subject's sessions from now on with this version; returns the bundle."""
        bundle: str = self._http.call("POST", f"/v1/subjects/{subject}/bundles/{number}/activate")["bundle"]
        return bundle

    def roll_back(self, subject: str) -> str:
        """Go back to the version that was active before; returns the bundle."""
        bundle: str = self._http.call("POST", f"/v1/subjects/{subject}/bundles/rollback")["bundle"]
        return bundle

    def export(
        self, subject: str, number: int, file: Path, report: Report = unreported, recipients: Sequence[str] = ()
    ) -> str:
        """Write a version as a tar file, whole or not at all; returns the digest of the bundle in it.

        recipients : public keys of those who may read it (``age1...``, ``ssh-ed25519 ...``); then it is encrypted
        """
        headers = self._http.download(f"/v1/subjects/{subject}/bundles/{number}/export", file, report, recipients)
        return headers["x-bundle-digest"]

    def job(self, job: str) -> dict[str, Any]:
        """What the job is to do, its state and its progress."""
        found: dict[str, Any] = self._http.call("GET", f"/v1/jobs/{job}")
        return found

    def jobs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.call("GET", "/v1/jobs")
        return found

    def cancel(self, job: str) -> None:
        """Cancel a job that is not finished."""
        self._http.call("DELETE", f"/v1/jobs/{job}")

    def resume(self, job: str) -> None:
        """Let a job go on that failed or was cancelled."""
        self._http.call("POST", f"/v1/jobs/{job}/resume")

    def messages(self, job: str, after: int = 0) -> list[JobMessage]:
        """What the job has reported after a number, some hundred messages at most."""
        page = self._http.call("GET", f"/v1/jobs/{job}/messages?after={after}")["messages"]
        return [parse_job_message(json.dumps(body)) for body in page]

    def follow(self, job: str, after: int = 0, silence_s: float = SILENCE_S) -> Iterator[JobMessage]:
        """The job's messages after a number, each once and in order, until it has ended (again, if it was resumed).

        Raises DeadlineExceeded (``job.silent``) after ``silence_s`` without a message.
        """
        heard_s = time.monotonic()
        while True:
            page = self.messages(job, after)
            for message in page:
                after, heard_s = message.id, time.monotonic()
                yield message
                if isinstance(message, JobEnded) and self.job(job)["n_messages"] == after:
                    return
            if time.monotonic() > heard_s + silence_s:
                raise DeadlineExceeded(
                    f"expected a message of {job} within {silence_s:g} s, got none: is a jobs worker running?",
                    code="job.silent",
                )
            if not page:
                time.sleep(LOOK_S)
