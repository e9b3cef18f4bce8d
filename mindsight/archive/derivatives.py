"""The derivative dataset: betas, answers, pictures, provenance. Motion and quality are in confounds.py.

Knows nothing of the raw volumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight import __version__
from mindsight.archive.images import nifti_writer
from mindsight.archive.names import Names
from mindsight.archive.pictures import TrialPictures, contact_sheets, extension
from mindsight.archive.raw import BIDS_VERSION
from mindsight.archive.records import ArchivedAnswer, ArchivedEvent, ArchivedRun, ArchivedSession
from mindsight.archive.tables import write_json, write_jsonl, write_tsv
from mindsight.errors import BadRequest
from mindsight.stages import STAGES, Stage


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
    """Per stage one 4-D image, a volume per trial, zero outside the mask, and the table of its trials; where the betas'
    standard errors are known, their squares in an image of the same make.

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
    effects = (run.betas[trial, stage] for trial in trials)
    _write_maps(path, run, session.mask_XYZ, session.affine, len(trials), effects)
    if all((trial, stage) in run.errors for trial in trials):
        path_of_variances = path.with_name(path.name.replace("stat-effect", "stat-variance"))
        variances = (run.errors[trial, stage] ** 2 for trial in trials)
        _write_maps(path_of_variances, run, session.mask_XYZ, session.affine, len(trials), variances)
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


def _write_maps(
    path: Path,
    run: ArchivedRun,
    mask_XYZ: NDArray[np.bool_],
    affine: NDArray[np.float64],
    n_maps: int,
    maps: Iterable[NDArray[np.float32]],
) -> None:
    x, y, z = mask_XYZ.shape
    n_voxels = int(mask_XYZ.sum())
    with nifti_writer(path, (x, y, z), n_maps, np.dtype(np.float32), affine) as writer:
        for map_V in maps:
            if map_V.shape != (n_voxels,):
                raise BadRequest(
                    f"run {run.run}: expected betas of {n_voxels} voxels, got {map_V.shape}", code="archive.shape"
                )
            map_XYZ = np.zeros((x, y, z), dtype=np.float32)
            map_XYZ[mask_XYZ] = map_V
            writer.write(map_XYZ)


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
        "caption": answer.caption,
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
