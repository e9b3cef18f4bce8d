"""One session → one folder: a raw BIDS dataset and Mindsight's derivatives of it. All is written, or nothing.

Knows nothing of bus, blobs or network.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mindsight.archive.names import DERIVED, RAWDATA, Names
from mindsight.archive.records import ArchivedSession
from mindsight.archive.write import confounds, derivatives, raw, registration
from mindsight.errors import Conflict
from mindsight.files.durable import publish_folder, storage_errors
from mindsight.files.manifest import files_in


def write_archive(session: ArchivedSession, folder: Path) -> list[Path]:
    """Write ``folder/rawdata`` and ``folder/derivatives/mindsight``; returns every file, relative to ``folder``.

    The files are written beside ``folder``, synced and renamed at the end, with one volume in memory at a time. The
    remains of an earlier attempt are replaced. The same session gives the same bytes.

    Raises Conflict (``archive.exists``), StorageFull, BadRequest and BadVolume if the session is inconsistent.
    """
    if folder.exists():
        raise Conflict("expected no archive of this session yet, got one; move it away first", code="archive.exists")
    partial = folder.parent / f".{folder.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    try:
        with storage_errors("the archive", "free space and archive the session again"):
            _write(session, partial)
            files = [Path(name) for name in files_in(partial)]
            publish_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # nothing, once it is renamed
    return files


def _write(session: ArchivedSession, root: Path) -> None:
    rawdata, derived = root / RAWDATA, root / DERIVED
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
        registration.write_registration(derived, names, run, session.images)
        derivatives.write_series(derived, names, run, session)
        derivatives.write_betas(derived, names, run, session)
        for archived in run.events:
            if archived.trial is not None and archived.stimulus is not None:
                stimuli[run.run, archived.trial] = archived.stimulus
    derivatives.write_results(derived, names, session.results)
    derivatives.write_images(derived, names, session.results, stimuli, session.images)
