"""The derivative dataset: betas, results, images, provenance. Motion and quality are in confounds.py.

Knows nothing of the raw volumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight import __version__
from mindsight.archive.names import MASK, PROVENANCE, RESULTS, Names, effect_maps, table_beside
from mindsight.archive.records import ArchivedEvent, ArchivedResult, ArchivedRun, ArchivedSession
from mindsight.archive.write.contact_sheet import Tile, TrialImages, contact_sheets, extension
from mindsight.archive.write.nifti import nifti_writer
from mindsight.archive.write.raw import BIDS_VERSION
from mindsight.archive.write.tables import write_json, write_jsonl, write_tsv
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
    write_json(root / PROVENANCE, dict(session.provenance))


def write_mask(root: Path, names: Names, session: ArchivedSession) -> None:
    if session.mask_XYZ is None or session.affine is None:
        return
    path = root / names.func(MASK)
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, z = session.mask_XYZ.shape
    with nifti_writer(path, (x, y, z), None, np.dtype(np.uint8), session.affine) as writer:
        writer.write(session.mask_XYZ.astype(np.uint8))


def write_series(root: Path, names: Names, run: ArchivedRun, session: ArchivedSession) -> None:
    """The realigned series from which the betas were estimated, zero outside the mask.

    Raises BadRequest if it does not fit run and mask.
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
    """For each stage one 4-D image with a volume per trial, zero outside the mask, and the table of its trials; where
    the standard errors of the betas are known, their squares in a second image.

    Raises BadRequest if there are betas but no mask, or a beta does not fit it.
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
    path = root / names.run(run.task, run.run, effect_maps(stage))
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
    write_tsv(table_beside(path), columns, rows)


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


def write_results(root: Path, names: Names, results: Sequence[ArchivedResult]) -> None:
    """Every result: whole as JSON lines, and flat as a table, in which a nested value is JSON in its cell."""
    rows = [_row(result) for result in results]
    path = root / names.func(RESULTS)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["run", "trial", "stage"]
    write_tsv(path.with_suffix(".tsv"), columns, ([row.get(column) for column in columns] for row in rows))


def _row(result: ArchivedResult) -> dict[str, Any]:
    own = {
        "run": result.run,
        "trial": result.trial,
        "stage": result.stage,
        "confidence": result.confidence,
        "retrieved_label": result.retrieved_label,
        "retrieved": result.retrieved,
        "reconstruction": result.reconstruction,
        "token_cosine": result.token_cosine,
        "fit_percentile": result.fit_percentile,
        "from_ranking": result.from_ranking,
        "caption": result.caption,
    }
    return own | {key: value for key, value in sorted(result.details.items()) if key not in own}


def write_images(
    root: Path,
    names: Names,
    results: Sequence[ArchivedResult],
    stimuli: Mapping[tuple[int, int], str],
    images: Mapping[str, bytes],
) -> None:
    """Reconstructions by trial, retrieved images by digest, and contact sheets of each trial's last result.

    stimuli : (run, trial) → digest of the image that was shown
    """
    folder = root / names.image("")
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        made = images.get(result.reconstruction) if result.reconstruction else None
        if made is not None:
            path = root / names.reconstruction(result.run, result.trial, result.stage, extension(made))
            path.write_bytes(made)
    for digest in sorted({result.retrieved for result in results if result.retrieved}):
        found = images.get(digest)
        if found is not None:
            (folder / "retrieved").mkdir(exist_ok=True)
            (folder / "retrieved" / (digest + extension(found))).write_bytes(found)

    last: dict[tuple[int, int], ArchivedResult] = {}
    for result in sorted(results, key=lambda result: STAGES.index(result.stage)):
        last[result.run, result.trial] = result
    trials = [_trial(last[key], stimuli.get(key), images) for key in sorted(last)]
    for number, sheet in enumerate(contact_sheets(trials), 1):
        (folder / f"{names.stem}_contactsheet-{number:02d}.png").write_bytes(sheet)


def _trial(result: ArchivedResult, stimulus: str | None, images: Mapping[str, bytes]) -> TrialImages:
    def image(digest: str | None) -> bytes | None:
        return None if digest is None else images.get(digest)

    fit = [] if result.token_cosine is None else [f"token cosine {result.token_cosine:.2f}"]
    if result.fit_percentile is not None:
        fit.append(f"percentile {result.fit_percentile:.0f}")
    if result.from_ranking is not None:
        fit.append(f"from ranking: {result.from_ranking:.0%}")
    closest = [] if result.retrieved_label is None else [result.retrieved_label]
    if result.confidence is not None:
        closest.append(f"right: {result.confidence:.2f}")
    return TrialImages(
        Tile(image(stimulus), (f"run {result.run}  trial {result.trial}", result.stage)),
        Tile(image(result.reconstruction), tuple(fit)),
        Tile(image(result.retrieved), tuple(closest)),
    )
