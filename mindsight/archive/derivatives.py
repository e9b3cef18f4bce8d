"""The derivative dataset: motion and quality, betas, answers, pictures, provenance.

Knows nothing of the raw volumes. Confounds have fMRIPrep's names, so that its readers read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindsight import __version__
from mindsight.archive.images import nifti_writer
from mindsight.archive.names import Names
from mindsight.archive.pictures import TrialPictures, contact_sheets, extension
from mindsight.archive.raw import BIDS_VERSION
from mindsight.archive.session import STAGES, ArchivedAnswer, ArchivedEvent, ArchivedRun, ArchivedSession, Stage
from mindsight.archive.tables import write_json, write_jsonl, write_tsv
from mindsight.errors import BadRequest

_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
_CONFOUNDS = {
    **{
        name: {
            "Description": f"Translation along {name[-1]}, rigid realignment about the scanner's origin",
            "Units": "mm",
        }
        for name in _MOTION[:3]
    },
    **{name: {"Description": f"Rotation about {name[-1]}, rigid realignment", "Units": "rad"} for name in _MOTION[3:]},
    "framewise_displacement": {
        "Description": "Power et al. 2012, 50 mm sphere, of the motion about the head's centre",
        "Units": "mm",
    },
    "dvars": {
        "Description": "Change of the brain's voxels from volume to volume, root mean square",
        "Units": "percent",
    },
    "missing_volume": {"Description": "1 where the volume never arrived"},
    "motion_outlier": {"Description": "motion_outlierXX: 1 for one volume that was left out of the betas"},
}


def write_dataset(root: Path, session: ArchivedSession) -> None:
    write_json(
        root / "dataset_description.json",
        {
            "Name": "Mindsight: real-time single-trial betas, retrievals and reconstructions",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "Mindsight", "Version": __version__}],
            "SourceDatasets": [{"URL": "../../rawdata"}],
        },
    )
    write_json(root / "provenance.json", dict(session.provenance))


def write_mask(root: Path, names: Names, session: ArchivedSession) -> None:
    if session.mask_XYZ is None or session.affine is None:
        return
    path = root / names.func("desc-decoder_mask.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, z = session.mask_XYZ.shape
    with nifti_writer(path, (x, y, z), None, np.dtype(np.uint8), session.affine) as writer:
        writer.write(session.mask_XYZ.astype(np.uint8))


def write_confounds(root: Path, names: Names, run: ArchivedRun, missing: Sequence[int]) -> None:
    """Raises BadRequest where a series is not as long as the run."""
    series = {
        "motion_T6": run.motion_T6,
        "fd_mm_T": run.fd_mm_T,
        "dvars_percent_T": run.dvars_percent_T,
        "censored_T": run.censored_T,
    }
    for name, array in series.items():
        expected = (run.n_volumes, 6) if name == "motion_T6" else (run.n_volumes,)
        if array.shape != expected:
            raise BadRequest(
                f"run {run.run}: expected {name} of shape {expected}, got {array.shape}", code="archive.shape"
            )
    outliers = [int(t) for t in np.flatnonzero(run.censored_T)]
    columns = [*_MOTION, "framewise_displacement", "dvars", "missing_volume"]
    columns += [f"motion_outlier{k:02d}" for k in range(len(outliers))]
    rows = (
        [
            *run.motion_T6[t],
            run.fd_mm_T[t],
            run.dvars_percent_T[t],
            t in missing,
            *(t == outlier for outlier in outliers),
        ]
        for t in range(run.n_volumes)
    )
    path = root / names.run(run.task, run.run, "desc-confounds_timeseries.tsv")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tsv(path, columns, rows)
    write_json(path.with_suffix(".json"), _CONFOUNDS)


def write_series(root: Path, names: Names, run: ArchivedRun, session: ArchivedSession) -> None:
    """What the betas were estimated from: the realigned series, zero outside the mask.

    Raises BadRequest where it does not fit run and mask.
    """
    if run.series_TV is None:
        return
    if session.mask_XYZ is None or session.affine is None:
        raise BadRequest("expected the mask and affine that the series belongs to", code="archive.mask")
    expected = (run.n_volumes, int(session.mask_XYZ.sum()))
    if run.series_TV.shape != expected:
        raise BadRequest(
            f"run {run.run}: expected a series of shape {expected}, got {run.series_TV.shape}", code="archive.shape"
        )
    path = root / names.run(run.task, run.run, "desc-preproc_bold.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, z = session.mask_XYZ.shape
    with nifti_writer(path, (x, y, z), run.n_volumes, np.dtype(np.float32), session.affine, run.tr_s) as writer:
        volume_XYZ = np.zeros((x, y, z), dtype=np.float32)
        for voxels_V in run.series_TV:
            volume_XYZ[session.mask_XYZ] = voxels_V
            writer.write(volume_XYZ)
    write_json(
        root / names.run(run.task, run.run, "desc-preproc_bold.json"),
        {"RepetitionTime": run.tr_s, "TaskName": run.task, "SkullStripped": True},
    )


def write_betas(root: Path, names: Names, run: ArchivedRun, session: ArchivedSession) -> None:
    """Per stage one 4-D image, a volume per trial, zero outside the mask, and the table of its trials.

    Raises BadRequest where there are betas but no mask, or a beta does not fit it.
    """
    events = {archived.trial: archived for archived in run.events if archived.trial is not None}
    for stage in STAGES:
        trials = sorted(trial for trial, at in run.betas if at == stage)
        if trials:
            _write_stage(root, names, run, session, stage, trials, events)


def _write_stage(
    root: Path,
    names: Names,
    run: ArchivedRun,
    session: ArchivedSession,
    stage: Stage,
    trials: Sequence[int],
    events: Mapping[int, ArchivedEvent],
) -> None:
    if session.mask_XYZ is None or session.affine is None:
        raise BadRequest("expected the mask and affine that the betas belong to", code="archive.mask")
    path = root / names.run(run.task, run.run, f"desc-{stage}_stat-effect_statmap.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, z = session.mask_XYZ.shape
    n_voxels = int(session.mask_XYZ.sum())
    with nifti_writer(path, (x, y, z), len(trials), np.dtype(np.float32), session.affine) as writer:
        for trial in trials:
            beta_V = run.betas[trial, stage]
            if beta_V.shape != (n_voxels,):
                raise BadRequest(
                    f"run {run.run}, trial {trial}: expected a beta of {n_voxels} voxels, got {beta_V.shape}",
                    code="archive.shape",
                )
            map_XYZ = np.zeros((x, y, z), dtype=np.float32)
            map_XYZ[session.mask_XYZ] = beta_V
            writer.write(map_XYZ)
    rows = []
    for volume, trial in enumerate(trials):
        archived = events.get(trial)
        event = archived.event if archived else None
        rows.append(
            [
                volume,
                trial,
                event and event.onset_s,
                event and event.duration_s,
                event and event.label,
                archived and archived.stimulus,
            ]
        )
    columns = ["volume", "trial", "onset", "duration", "trial_type", "stimulus"]
    write_tsv(path.with_name(path.name.replace(".nii.gz", ".tsv")), columns, rows)


def write_answers(root: Path, names: Names, answers: Sequence[ArchivedAnswer]) -> None:
    """Every answer: whole as JSON lines, flat as a table (what is nested is JSON in its cell)."""
    rows = [_row(answer) for answer in answers]
    path = root / names.func("desc-decoding_results.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["run", "trial", "stage"]
    write_tsv(path.with_suffix(".tsv"), columns, ([row.get(column) for column in columns] for row in rows))


def _row(answer: ArchivedAnswer) -> dict[str, Any]:
    own = {
        "run": answer.run,
        "trial": answer.trial,
        "stage": answer.stage,
        "confidence": answer.confidence,
        "retrieved_label": answer.retrieved_label,
        "retrieved": answer.retrieved,
        "reconstruction": answer.reconstruction,
    }
    return own | {key: value for key, value in sorted(answer.details.items()) if key not in own}


def write_pictures(
    root: Path,
    names: Names,
    answers: Sequence[ArchivedAnswer],
    stimuli: Mapping[tuple[int, int], str],
    images: Mapping[str, bytes],
) -> None:
    """Reconstructions by trial, retrieved pictures by digest, and sheets of each trial's last answer.

    stimuli : (run, trial) → digest of what was shown
    """
    folder = root / names.picture("")
    folder.mkdir(parents=True, exist_ok=True)
    for answer in answers:
        made = images.get(answer.reconstruction) if answer.reconstruction else None
        if made is not None:
            name = f"{names.stem}_run-{answer.run}_trial-{answer.trial}_desc-{answer.stage}_reconstruction"
            (folder / (name + extension(made))).write_bytes(made)
    for digest in sorted({answer.retrieved for answer in answers if answer.retrieved}):
        found = images.get(digest)
        if found is not None:
            (folder / "retrieved").mkdir(exist_ok=True)
            (folder / "retrieved" / (digest + extension(found))).write_bytes(found)

    last: dict[tuple[int, int], ArchivedAnswer] = {}
    for answer in sorted(answers, key=lambda answer: STAGES.index(answer.stage)):
        last[answer.run, answer.trial] = answer
    pictures = [_pictures(last[key], stimuli.get(key), images) for key in sorted(last)]
    for number, sheet in enumerate(contact_sheets(pictures), 1):
        (folder / f"{names.stem}_contactsheet-{number:02d}.png").write_bytes(sheet)


def _pictures(answer: ArchivedAnswer, stimulus: str | None, images: Mapping[str, bytes]) -> TrialPictures:
    def image(digest: str | None) -> bytes | None:
        return None if digest is None else images.get(digest)

    caption = f"run {answer.run}  trial {answer.trial}  {answer.stage}"
    if answer.confidence is not None:
        caption += f"  confidence {answer.confidence:.2f}"
    if answer.retrieved_label is not None:
        caption += f"  {answer.retrieved_label[:24]}"
    return TrialPictures(caption, image(stimulus), image(answer.reconstruction), image(answer.retrieved))
