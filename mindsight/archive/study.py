"""All archived sessions of a data folder as one BIDS dataset: raw data at its root, Mindsight's derivatives below.

The files are the archives' own (hard links where the disk allows it), but for sidecars. Knows nothing of subjects'
consent or of the service.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mindsight import __version__
from mindsight.archive import study_derivatives
from mindsight.archive.names import DERIVED, EVENTS, PROVENANCE, RAWDATA, STIMULI
from mindsight.archive.read import is_archive, read_session_name
from mindsight.archive.study_derivatives import IMAGE, LOGS, placed, write_sidecar
from mindsight.archive.write.raw import BIDS_VERSION
from mindsight.archive.write.tables import write_json, write_tsv
from mindsight.errors import BadRequest, Conflict
from mindsight.events import NOT_AVAILABLE
from mindsight.files.durable import publish_folder, storage_errors
from mindsight.files.manifest import files_in
from mindsight.shares import Count, Report, Shares, unreported

README = """\
Real-time fMRI sessions, exported by Mindsight: volumes and events as they came, in BIDS.

derivatives/mindsight has what was computed while the participants were scanned: realigned series, confounds under
fMRIPrep's names, single-trial betas at three stages, results, reconstructions, and a report of each session.
A participant is a random pseudonym; its key is not part of the dataset.
"""
_TASK = re.compile(r"_task-([A-Za-z0-9]+)_")


@dataclass(frozen=True, slots=True)
class Study:
    """What was exported."""

    folder: Path
    n_subjects: int
    n_sessions: int
    n_files: int


def write_study(
    archives: Sequence[Path],
    folder: Path,
    *,
    name: str = "Real-time fMRI study",
    report: Report = unreported,
) -> Study:
    """Write the dataset, whole or not at all.

    archives : folders of sessions, as ``write_archive`` made them
    folder : a new one
    report : receives what is being done, and the share of it that is done

    Raises Conflict (``study.exists``), BadRequest (``study.archive``) for another folder than an archive, StorageFull.
    """
    if folder.exists():
        raise Conflict(f"expected a new folder, {folder} exists: name another, or remove it", code="study.exists")
    if not archives or not all(map(is_archive, archives)):
        wrong = next((path.name for path in archives if not is_archive(path)), "none")
        raise BadRequest(f"expected folders of archived sessions, got {wrong}", code="study.archive")
    partial = folder.absolute().parent / f".{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    subjects: set[str] = set()
    try:
        with storage_errors("the dataset", "free space and export again"):
            _write_heads(partial, name)
            shares = Shares(report, sum(path.stat().st_size for archive in archives for path in archive.rglob("*")))
            for archive in archives:
                subjects.add(_add_session(archive, partial, shares.of(archive.name)))
            rows = [[f"sub-{subject}"] for subject in sorted(subjects)]
            write_tsv(partial / "participants.tsv", ["participant_id"], rows)
            n_files = len(files_in(partial))
            publish_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # nothing, once it is renamed
    return Study(folder, len(subjects), len(archives), n_files)


def _write_heads(root: Path, name: str) -> None:
    described = {"BIDSVersion": BIDS_VERSION, "GeneratedBy": [{"Name": "Mindsight", "Version": __version__}]}
    study_derivatives.write_heads(root / DERIVED, name, described)
    write_json(root / "dataset_description.json", {"Name": name, "DatasetType": "raw", **described})
    (root / "README").write_text(README, encoding="utf-8")


def _add_session(archive: Path, root: Path, count: Count) -> str:
    """Returns the subject's label. count : receives the bytes of each file"""
    subject, session = read_session_name(archive)
    raw, derived = archive / RAWDATA, archive / DERIVED
    images = [name for name in files_in(raw) if name.startswith(f"sub-{subject}/") and name.endswith(IMAGE)]
    tasks = sorted({_TASK.findall(name)[0] for name in images})
    columns = {f"task-{task}_events.json" for task in tasks}
    for name in files_in(raw):
        if name.startswith((f"sub-{subject}/", f"{STIMULI}/")) or name in columns:
            _put(raw / name, root / name)
            count((raw / name).stat().st_size)
            if name.endswith(f"_{EVENTS}"):
                _name_absent_images(root / name, raw / STIMULI)
    for name in files_in(derived):
        if name.startswith(f"sub-{subject}/") or name == f"sub-{subject}_ses-{session}.html":
            for target in placed(name, tasks):
                _put(derived / name, root / DERIVED / target)
                if name.endswith(IMAGE):
                    write_sidecar(root / DERIVED, target, images)
            count((derived / name).stat().st_size)
    _put(derived / PROVENANCE, root / DERIVED / LOGS / f"sub-{subject}_ses-{session}_{PROVENANCE}")
    return subject


def _name_absent_images(events: Path, stimuli: Path) -> None:
    """BIDS wants every ``stim_file`` to be there: a name whose image was not uploaded goes to a column of its own."""
    head, *rows = ([*line.split("\t")] for line in events.read_text(encoding="utf-8").splitlines())
    at = head.index("stim_file")
    absent = [row[at] != NOT_AVAILABLE and not (stimuli / row[at]).is_file() for row in rows]
    if any(absent):
        events.unlink()  # it may be the archive's own
        named = [
            [*(NOT_AVAILABLE if gone and k == at else cell for k, cell in enumerate(row)), row[at] if gone else None]
            for row, gone in zip(rows, absent, strict=True)
        ]
        write_tsv(events, [*head, "stimulus_name"], named)


def _put(source: Path, target: Path) -> None:
    """The same file under another name, or a copy of it where links are not possible; a second one stays away."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
