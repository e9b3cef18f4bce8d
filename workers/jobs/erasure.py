"""Erasing a subject or one of its sessions as a job: everything of it, and a check that nothing is left.

What several subjects share (a pool, an image that others saw too) stays. A job that was ended goes on: every step finds
what is left of it.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mindsight.blobs import Blobs, Stored, open_blobs, open_shown
from mindsight.bus.forget import compact, forget_jobs, forget_logs, mentions
from mindsight.errors import Conflict, NotFound
from mindsight.files.images import image_kind
from mindsight.journal.jobs import QUEUE, log_name
from mindsight.journal.read import Journal, entries
from mindsight.journal.replies import Replies
from mindsight.journal.sessions import Sessions
from mindsight.protocol.jobs import CalibrationTask, ErasureTask, JobRecord, PoolTask
from mindsight.settings import Settings
from workers.jobs.desk import Desk
from workers.jobs.naming import Named
from workers.jobs.sealing import QUEUES, forget_work

HELD_S, LOOK_S = 60.0, 0.25  # a job in hand
IN_FLIGHT_S = 1800.0  # a payload is stored before the log refers to it, by a clock that may be 15 minutes behind ours
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_TEXT = {".json", ".jsonl", ".tsv", ".log", ".html", ""}
_MAX_TEXT_BYTES = 16 * 1024 * 1024


def erase(desk: Desk, task: ErasureTask) -> str:
    """Carry the task out; what was removed, in words. Raises Conflict (``erasure.left``) if anything is left."""
    subject = task.subject
    if task.session is None:
        desk.registry.erase(subject)  # from here on nothing new of this subject can begin
        sessions = [record.session for record in Sessions(desk.bus).list(subject=subject)]
    else:
        sessions = [task.session]
    others = sorted(Sessions(desk.bus).names() - set(sessions))
    named = Named(sessions, others, subject if task.session is None else None)
    jobs = [record for record in desk.jobs.list() if record.job != desk.record.job and _is_about(record, task)]
    desk.progress("logs", 0, len(sessions))
    _end_work(desk, sessions)
    n_blobs, n_kept = _remove_blobs(desk, sessions)
    for done, session in enumerate(sessions, 1):
        _remove_session(desk, session)
        desk.progress("logs", done, len(sessions))
    for record in jobs:
        desk.jobs.forget(record)
        forget_jobs(desk.bus, QUEUE, lambda key: key.rsplit("-", 1)[0] == record.job, held=True)  # noqa: B023
        shutil.rmtree(desk.settings.jobs_dir / record.job, ignore_errors=True)
    if task.session is None:
        desk.versions.erase(subject)
        folders = list(_folders_of(desk.settings, subject))
    else:
        desk.versions.erase_session(subject, task.session)
        folders = [desk.settings.archive_dir / f"{subject}_{task.session}"]
    n_folders = _remove_files(desk.settings, folders, named)
    Replies(desk.bus, time.time).forget()  # which may name it
    compact(desk.bus)
    left = _left(desk, named) + ["payload in the store"] * n_kept
    if left:
        what = "subject" if task.session is None else "session"
        raise Conflict(
            f"expected nothing of the {what} to be left, found {len(left)}, e.g. {left[0]}: resume this job",
            code="erasure.left",
        )
    removed = {"session": len(sessions), "payload": n_blobs, "job": len(jobs), "folder": n_folders}
    return f"{', '.join(f'{n} {what}' if n == 1 else f'{n} {what}s' for what, n in removed.items())}; nothing is left"


def _is_about(record: JobRecord, erased: ErasureTask) -> bool:
    task = record.task
    if isinstance(task, PoolTask) or task.subject != erased.subject:
        return False
    sessions = (*task.sessions, task.live) if isinstance(task, CalibrationTask) else (task.session,)
    return erased.session is None or erased.session in sessions


def _end_work(desk: Desk, sessions: Sequence[str]) -> None:
    """Wait for the jobs in hand, and let nobody take another: what follows from one would be written after the rest
    is gone. One that a worker does not end in ``HELD_S`` was left by a worker that died, and goes, too.
    """
    until_s = time.monotonic() + HELD_S
    while sum([forget_work(desk.bus, session) for session in sessions]) and time.monotonic() < until_s:
        time.sleep(LOOK_S)
    for session in sessions:
        forget_work(desk.bus, session, held=True)


def _remove_session(desk: Desk, session: str) -> None:
    """The list of sessions last: a job that goes on finds the session there until all else is gone."""
    for name in (session, f"{session}-archive"):
        forget_logs(desk.bus, name)
    for path in desk.settings.snapshots_dir.glob(f"{session}*"):
        if re.fullmatch(rf"{re.escape(session)}(-run-\d+-series)?\.safetensors(\..*)?", path.name):
            path.unlink(missing_ok=True)
    shutil.rmtree(desk.settings.data_dir / "spool" / session, ignore_errors=True)
    Sessions(desk.bus).forget(session)


def _remove_blobs(desk: Desk, sessions: Sequence[str]) -> tuple[int, int]:
    """Remove the payloads that only these sessions' logs refer to, and those that no log refers to.

    How many went, and how many of these sessions are there all the same.
    """
    own = {digest for session in sessions for digest in _digests(desk, session)}
    others = Sessions(desk.bus).names() - set(sessions)
    shared = {digest for session in others for digest in _digests(desk, session)}
    for queue in QUEUES:
        for _, fields in desk.bus.command("XRANGE", f"q:{{{queue}}}:log", "-", "+"):
            shared |= {digest for value in fields for digest in _found(value)}
    n_removed = n_kept = 0
    blobs, shown = open_blobs(desk.settings), open_shown(desk.settings)
    for store in (blobs, shown):
        unshared = [stored for stored in store.listed() if stored.digest not in shared]
        going = [one.digest for one in unshared if one.digest in own or (store is blobs and _is_orphan(blobs, one))]
        store.remove(going)
        n_removed += len(going)
        n_kept += len({stored.digest for stored in store.listed()} & (own - shared))
    return n_removed, n_kept


def _is_orphan(blobs: Blobs, stored: Stored) -> bool:
    """Whether it is a payload that was never referred to: statistics of betas, which earlier releases did not log."""
    if stored.modified_t > time.time() - IN_FLIGHT_S:
        return False
    try:
        return image_kind(blobs.beginning(stored.digest, 16)) is None  # a pool's images come before the first result
    except NotFound:
        return False


def _digests(desk: Desk, session: str) -> Iterator[str]:
    journal = Journal(desk.bus, session)
    for log in (journal.inputs, journal.messages):
        for entry in entries(log):
            yield from _found(entry.payload)


def _found(payload: bytes) -> Iterator[str]:
    return (match.decode() for match in _DIGEST.findall(payload))


def _folders_of(settings: Settings, subject: str) -> Iterator[Path]:
    yield from settings.archive_dir.glob(f"{subject}_*")
    yield from _bundles_of(settings, subject)
    yield from (settings.data_dir / "rois").glob(subject)


def _remove_files(settings: Settings, folders: Sequence[Path], named: Named) -> int:
    there = [folder for folder in folders if folder.exists()]
    for folder in there:
        shutil.rmtree(folder, ignore_errors=True)
    for log in (settings.data_dir / "logs").glob("*.log"):
        _remove_lines(log, named)
    return len(there)


def _bundles_of(settings: Settings, subject: str) -> Iterator[Path]:
    for path in settings.bundles_dir.glob("*/bundle.json"):
        try:
            if json.loads(path.read_bytes())["subject"] == subject:
                yield path.parent
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _remove_lines(log: Path, named: Named) -> None:
    """In place: the process that writes it has it open."""
    with log.open("r+b") as file:
        lines = file.readlines()
        kept = [line for line in lines if not named(line)]
        if len(kept) < len(lines):
            file.seek(0)
            file.writelines(kept)
            file.truncate()


def _left(desk: Desk, named: Named) -> list[str]:
    """What still has one of the names: in names of files, in texts, and on the bus."""
    own = {f"s:{{{log_name(desk.record.job)}}}", "jobs:{all}:records", "jobs:{all}:holders"}
    left = [f"{key} on the bus" for key in mentions(desk.bus, named) if not any(key.startswith(name) for name in own)]
    for path in desk.settings.data_dir.rglob("*"):
        relative = path.relative_to(desk.settings.data_dir)
        if relative.parts[0] in ("bus", "audit"):
            continue  # the server's own files, which were written again; and that it was erased
        if named(path.name.encode()) or (path.is_file() and _has(path, named)):
            left.append(f"file in {relative.parts[0]}")
    return left


def _has(path: Path, named: Named) -> bool:
    try:
        if path.suffix not in _TEXT or len(path.name) == 64 or path.stat().st_size > _MAX_TEXT_BYTES:
            return False
        return named(path.read_bytes())
    except OSError:
        return False
