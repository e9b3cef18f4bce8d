"""One session → one folder: a raw BIDS dataset and Mindsight's derivatives of it. All of it or nothing.

Knows nothing of bus, blobs or network.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from mindsight.archive import confounds, derivatives, raw
from mindsight.archive import registration as place
from mindsight.archive.names import Names
from mindsight.archive.records import ArchivedSession
from mindsight.errors import Conflict, StorageFull


def write_archive(session: ArchivedSession, folder: Path) -> list[Path]:
    """Writes ``folder/rawdata`` and ``folder/derivatives/mindsight``; returns every file, relative to ``folder``.

    Written beside ``folder`` and renamed at the end, one volume in memory at a time. What an interrupted attempt left
    is replaced. The same session gives the same bytes.

    Raises Conflict where ``folder`` is there already, StorageFull, BadRequest and BadVolume where the session is not
    consistent in itself.
    """
    if folder.exists():
        raise Conflict("expected no archive of this session yet, got one; move it away first", code="archive.exists")
    partial = folder.parent / f".{folder.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    try:
        _write(session, partial)
        files = sorted(path.relative_to(partial) for path in partial.rglob("*") if path.is_file())
        partial.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull("the archive does not fit on the disk; make room and archive the session again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # nothing, once it is renamed
    return files


def _write(session: ArchivedSession, root: Path) -> None:
    rawdata, derived = root / "rawdata", root / "derivatives" / "mindsight"
    rawdata.mkdir(parents=True)
    derived.mkdir(parents=True)
    names = Names(session.subject, session.session)
    raw.write_dataset(rawdata, names)
    derivatives.write_dataset(derived, session)
    derivatives.write_mask(derived, names, session)
    stimuli: dict[tuple[int, int], str] = {}
    for run in session.runs:
        missing = raw.write_run(rawdata, names, run, session.images)
        confounds.write_confounds(derived, names, run, session, missing)
        place.write_place(derived, names, run, session.images)
        derivatives.write_series(derived, names, run, session)
        derivatives.write_betas(derived, names, run, session)
        for archived in run.events:
            if archived.trial is not None and archived.stimulus is not None:
                stimuli[run.run, archived.trial] = archived.stimulus
    derivatives.write_answers(derived, names, session.answers)
    derivatives.write_pictures(derived, names, session.answers, stimuli, session.images)
