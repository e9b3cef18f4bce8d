"""Trials of Mindsight's session archives: final betas, and the images that were shown.

Knows nothing of where images are embedded. Letters: K trials, V voxels of the session's mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mindsight.archive.read import (
    FinalBeta,
    ShownTrial,
    is_archive,
    read_final_betas,
    read_mask,
    read_session_name,
    read_shown,
)
from mindsight.errors import BadRequest
from training.datasets.masks import digest_of_mask
from training.datasets.trials import ArrayBetas, SubjectTrials, joined_sessions


def read_archives(folders: Sequence[Path]) -> tuple[SubjectTrials, ...]:
    """One subject for each that the archives are of; sessions in the order of their names.

    Trials without a final beta (no volume covered them) are left out, if others of their run have one.

    Raises BadRequest: ``archive.answers`` for a folder that is no archive, ``dataset.half`` for a run without betas,
    ``dataset.images`` if it was not recorded what was shown, ``dataset.mask`` for sessions of one subject in different
    masks.
    """
    found: dict[str, list[SubjectTrials]] = {}
    for folder in folders:
        trials = read_archive(folder)
        found.setdefault(trials.subject, []).append(trials)
    return tuple(
        joined_sessions(sorted(sessions, key=lambda trials: trials.sessions[0])) for sessions in found.values()
    )


def read_archive(folder: Path) -> SubjectTrials:
    """One session; see ``read_archives``."""
    if not is_archive(folder):
        raise BadRequest(
            f"expected the archive of a session, {folder.name} is none: name a folder with rawdata and derivatives",
            code="archive.answers",
        )
    subject, session = read_session_name(folder)
    betas, space = _read(folder, session)
    shown = [trial for trial in read_shown(folder) if trial.candidate or trial.image is not None or trial.label is None]
    with_betas = {run for run, _ in betas}
    if without := sorted({trial.run for trial in shown} - with_betas):
        raise BadRequest(
            f"expected betas of every run of session {session} of subject {subject}, got none of run {without[0]}:"
            " archive the session again, or remove the run's events from it",
            code="dataset.half",
        )
    kept = [trial for trial in shown if trial.key in betas]
    images = [_image(trial, session) for trial in kept]
    if not kept:
        raise BadRequest(
            f"expected trials that showed images in session {session} of subject {subject}, got none: the session was"
            " decoded to labels, or nothing was decoded",
            code="dataset.images",
        )
    return SubjectTrials(
        subject,
        ArrayBetas(np.stack([betas[trial.key].beta_V for trial in kept])),
        tuple(images),
        (session,) * len(kept),
        tuple(trial.run for trial in kept),
        space,
    )


def _read(folder: Path, session: str) -> tuple[dict[tuple[int, int], FinalBeta], str]:
    """(run, trial) -> its final beta; and the digest of the mask."""
    from nibabel.filebasedimages import ImageFileError

    try:
        mask_XYZ, affine = read_mask(folder)
        betas = read_final_betas(folder)
    except (OSError, EOFError, ValueError, IndexError, StopIteration, ImageFileError) as error:
        raise BadRequest(
            f"expected a mask and maps of betas of session {session}, which cannot be read ({type(error).__name__}):"
            " archive the session again, or leave it out if nothing was decoded",
            code="dataset.half",
        ) from None
    return betas, digest_of_mask(mask_XYZ, affine)


def _image(trial: ShownTrial, session: str) -> str:
    """Name of the image: the candidate's id, else the name of its file without its suffix."""
    if trial.candidate is not None:
        return trial.candidate
    if trial.image is None:
        raise BadRequest(
            f"expected what each trial of session {session} showed, trial {trial.trial} of run {trial.run} has neither"
            " a candidate nor an image in the archive: leave the session out, or send the events with candidates",
            code="dataset.images",
        )
    return trial.image.stem
