"""The raw dataset: volumes and events, and nothing that was computed from them.

Knows nothing of betas or results.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mindsight.archive.names import EVENTS, STIMULI, Names, bids_label
from mindsight.archive.records import ArchivedRun
from mindsight.archive.write.contact_sheet import extension
from mindsight.archive.write.nifti import nifti_writer
from mindsight.archive.write.tables import write_json, write_tsv
from mindsight.errors import BadRequest
from mindsight.scanner.formats.sidecar import MOTION, MOTION_ORDER
from mindsight.volume import Volume

BIDS_VERSION = "1.10.0"

_END = object()

README = """\
One session of real-time fMRI, as the scanner sent it, written by Mindsight.

Volumes are on the scanner's own grid, neither realigned nor filtered. A TR that never arrived is a volume of zeros;
its number is in "MissingVolumes" of the run's JSON file, and in the confounds table of derivatives/mindsight.
Nothing here identifies the participant but the pseudonym, whose key is not part of the dataset.
"""

_EVENT_COLUMNS = {
    "onset": {"Description": "Start of the event after the start of the run's first volume", "Units": "s"},
    "duration": {"Description": "Duration of the event, 0 for an impulse", "Units": "s"},
    "trial_type": {"Description": "Label of what was shown"},
    "trial": {"Description": "Number of the trial in its run, from 1; n/a for an event that was not decoded"},
    "stim_file": {"Description": "Image that was shown, below stimuli/"},
    "stimulus": {"Description": "sha256 of the image that was shown"},
    "candidate": {"Description": "Id of the image in the decoder's candidate pool"},
}


def write_dataset(root: Path, names: Names) -> None:
    write_json(
        root / "dataset_description.json",
        {"Name": "Real-time fMRI session", "BIDSVersion": BIDS_VERSION, "DatasetType": "raw"},
    )
    (root / "README").write_text(README, encoding="utf-8")
    write_tsv(root / "participants.tsv", ["participant_id"], [[f"sub-{bids_label(names.subject)}"]])


def write_stimulus(root: Path, digest: str, content: bytes) -> None:
    folder = root / STIMULI
    folder.mkdir(exist_ok=True)
    (folder / (digest + extension(content))).write_bytes(content)


def write_run(root: Path, names: Names, run: ArchivedRun, images: Mapping[str, bytes]) -> list[int]:
    """The run's volumes, its events and the images that it showed. Returns the indices of the missing volumes.

    Raises BadRequest if the run yields another number of volumes than ``n_volumes``.
    """
    volumes = iter(run.volumes)
    leading = 0
    while (first := next(volumes, _END)) is None:
        leading += 1
    if not isinstance(first, Volume):
        raise BadRequest(f"run {run.run} has no volumes; leave it out", code="archive.empty_run")

    path = root / names.run(run.task, run.run, "bold.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    missing: list[int] = []
    motion: list[tuple[float, ...] | None] = []
    n = 0
    with nifti_writer(path, first.shape, run.n_volumes, first.data.dtype, first.affine, run.tr_s) as writer:
        for n, volume in enumerate(chain([None] * leading, [first], volumes), 1):
            motion.append(None if volume is None else volume.motion_6)
            if volume is None:
                writer.write_missing()
                missing.append(n - 1)
            else:
                writer.write(volume.data)
    if n != run.n_volumes:
        raise BadRequest(f"run {run.run}: expected {run.n_volumes} volumes, got {n}", code="archive.volumes")

    sidecar: dict[str, Any] = {"RepetitionTime": run.tr_s, "TaskName": run.task, "MissingVolumes": missing}
    if first.slice_times_s is not None:
        sidecar["SliceTiming"] = [round(float(t), 6) for t in np.asarray(first.slice_times_s)]
    if run.motion_order is not None:  # recorded with the volumes, and needed by a replay
        sidecar |= {MOTION: motion, MOTION_ORDER: run.motion_order}
    write_json(root / names.run(run.task, run.run, "bold.json"), sidecar)
    _write_events(root, names, run, images)
    return missing


def _write_events(root: Path, names: Names, run: ArchivedRun, images: Mapping[str, bytes]) -> None:
    rows: list[list[object]] = []
    for archived in sorted(run.events, key=lambda archived: archived.event.onset_s):
        event, digest = archived.event, archived.stimulus
        content = images.get(digest) if digest is not None else None
        if digest is not None and content is not None:
            write_stimulus(root, digest, content)
        stim_file = digest + extension(content) if digest is not None and content is not None else event.stim_file
        own: list[object] = [
            event.onset_s,
            event.duration_s,
            event.label,
            archived.trial,
            stim_file,
            digest,
            archived.candidate,
        ]
        rows.append(own)
    write_tsv(root / names.run(run.task, run.run, EVENTS), list(_EVENT_COLUMNS), rows)
    write_json(root / f"task-{bids_label(run.task)}_events.json", _EVENT_COLUMNS)
