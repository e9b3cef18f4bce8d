"""Trials of a BIDS derivative with single-trial betas, found by subject, session and task.

Three forms: 4-D maps with a table of trials beside them (Mindsight, and GLMsingle's betas saved as NIfTI); one 3-D map
for each trial (nilearn's ``save_glm_to_bids`` with one condition a trial); and GLMsingle's HDF5, which MATLAB's
``-v7.3`` files are. GLMsingle's Python writes pickles, which are not read. Names are read here: pybids would add a
database for the entities of a file name. Letters: K trials, V voxels; X, Y, Z axes of the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.files.arrays import HDF5_DAMAGED
from training.datasets.bids_tables import TrialRow, read_trials
from training.datasets.masks import digest_of_mask
from training.datasets.trials import ArrayBetas, SubjectTrials, joined_sessions

_SUFFIXES = ("_statmap.nii.gz", "_statmap.nii", "_betas.nii.gz", "_betas.nii", "_betas.h5", "_betas.hdf5", "_betas.mat")
_GLMSINGLE = ("betasmd", "modelmd")  # the dataset's name in Python and in MATLAB
_ENTITY = re.compile(r"(?:^|_)([a-zA-Z]+)-([a-zA-Z0-9]+)")
_PLACE_MM = 0.01


@dataclass(frozen=True, slots=True)
class BidsQuery:
    """What to take; None takes all there are.

    folder : of the derivative
    mask : of the voxels, NIfTI; None: the one ``*_mask.nii.gz`` of the subject and session, or of the subject
    events : folder of the raw data, whose events say what was shown where no table lies beside the maps
    """

    folder: Path
    subjects: tuple[str, ...] | None = None
    session: str | None = None
    task: str | None = None
    mask: Path | None = None
    events: Path | None = None


def entities(name: str) -> dict[str, str]:
    """Entities in a BIDS file name."""
    return dict(_ENTITY.findall(name.split(".")[0]))


def read_bids(query: BidsQuery) -> tuple[SubjectTrials, ...]:
    """Raises BadRequest: ``dataset.none`` if nothing is found, ``dataset.half`` for maps without their trials,
    ``dataset.mask`` for a mask that is missing or in another space, ``dataset.format`` for files that are not read.
    """
    found = _find(query)
    if not found:
        wanted = f"subjects {', '.join(query.subjects or ['of any name'])}, session {query.session or 'any'}"
        raise BadRequest(
            f"expected single-trial betas in {query.folder.name} (files that end in _statmap or _betas) of {wanted},"
            f" task {query.task or 'any'}, got none: check names and folder",
            code="dataset.none",
        )
    subjects = []
    for subject, files in groupby(found, key=lambda path: entities(path.name)["sub"]):
        sessions = groupby(list(files), key=lambda path: entities(path.name).get("ses", "1"))
        parts = [_session(query, subject, session, list(own)) for session, own in sessions]
        subjects.append(joined_sessions(parts))
    return tuple(subjects)


def _find(query: BidsQuery) -> list[Path]:
    """In the order of subject, session, run and name."""
    if pickled := list(query.folder.rglob("TYPE*.npy")):
        raise BadRequest(
            f"expected betas that can be read without running code, {pickled[0].name} is a pickle: save its betasmd as"
            " NIfTI or HDF5 (sub-..._betas.h5)",
            code="dataset.format",
        )
    found = []
    for path in query.folder.rglob("sub-*"):
        if not path.name.endswith(_SUFFIXES) or not path.is_file():
            continue
        held = entities(path.name)
        if query.subjects is not None and held.get("sub") not in query.subjects:
            continue
        if any(wanted not in (None, held.get(key)) for key, wanted in (("ses", query.session), ("task", query.task))):
            continue
        if held.get("stat", "effect") == "effect" and held.get("desc", "final") not in ("fast", "revised"):
            found.append(path)
    return sorted(found, key=_order)


def _order(path: Path) -> tuple[str, str, int, str]:
    held = entities(path.name)
    return held["sub"], held.get("ses", "1"), int(held.get("run", "1")), path.name


def _session(query: BidsQuery, subject: str, session: str, files: Sequence[Path]) -> SubjectTrials:
    mask_XYZ, affine = _mask(query, subject, session)
    betas, rows = [], []
    for _, own in groupby(files, key=lambda path: (entities(path.name).get("run", "1"), "contrast" in path.name)):
        for maps_VK, trials in _runs(query, list(own), mask_XYZ, affine):
            betas.append(maps_VK.T)
            rows += trials
    return SubjectTrials(
        subject,
        ArrayBetas(np.concatenate(betas)),
        tuple(row.image for row in rows),
        (session,) * len(rows),
        tuple(row.run for row in rows),
        digest_of_mask(mask_XYZ, affine),
    )


def _runs(
    query: BidsQuery, files: list[Path], mask_XYZ: NDArray[np.bool_], affine: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float32], list[TrialRow]]]:
    """(V, K) betas of each file, or of all files that hold one trial each, and their trials."""
    if "contrast" in entities(files[0].name):
        maps = [_voxels(path, mask_XYZ, affine) for path in files]
        yield np.concatenate(maps, axis=1), read_trials(files, len(files), query.events)
        return
    for path in files:
        maps_VK = _voxels(path, mask_XYZ, affine)
        yield maps_VK, read_trials([path], maps_VK.shape[1], query.events)


def _voxels(path: Path, mask_XYZ: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """(V, K) the betas in the mask, in C order of the image."""
    if path.name.endswith((".nii", ".nii.gz")):
        image = _nifti(path)
        data, place = np.asarray(image.dataobj, np.float32), np.asarray(image.affine, np.float64)
        if data.shape[:3] == mask_XYZ.shape and not np.allclose(place, affine, atol=_PLACE_MM):
            raise _other_mask(path, f"the same {mask_XYZ.shape} voxels in another place")
    else:
        data = _hdf5(path)
    data = data.reshape(*data.shape[:3], -1)
    if data.shape[:3] != mask_XYZ.shape:
        raise _other_mask(path, f"images of {data.shape[:3]}")
    taken_VK: NDArray[np.float32] = data[mask_XYZ]
    return taken_VK


def _hdf5(path: Path) -> NDArray[np.float32]:
    """(X, Y, Z, K): MATLAB's order is the reverse of ours."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            name = next(name for name in _GLMSINGLE if name in file)
            data = np.asarray(file[name], np.float32)
            reverse = "MATLAB_class" in file[name].attrs
    except (*HDF5_DAMAGED, StopIteration) as error:
        raise BadRequest(
            f"expected HDF5 with betasmd or modelmd in {path.name}, got {type(error).__name__}: save MATLAB's with"
            " -v7.3",
            code="dataset.format",
        ) from None
    if data.ndim != 4:
        raise BadRequest(f"expected betas (X, Y, Z, trials) in {path.name}, got {data.shape}", code="dataset.format")
    return data.transpose(3, 2, 1, 0) if reverse else data


def _mask(query: BidsQuery, subject: str, session: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    if query.mask is not None:
        return _read_mask(query.mask)
    masks = [path for path in query.folder.rglob(f"sub-{subject}_*_mask.nii*") if path.is_file()]
    own = [path for path in masks if entities(path.name).get("ses", session) == session]
    if len(own) != 1:
        raise BadRequest(
            f"expected one mask of subject {subject}, session {session}, got {len(own)}: name it (mask = ...)",
            code="dataset.mask",
        )
    return _read_mask(own[0])


def _read_mask(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    image = _nifti(path)
    return np.asarray(image.dataobj) > 0, np.asarray(image.affine, np.float64)


def _nifti(path: Path) -> Any:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        image.dataobj[..., 0]  # so that a file that was cut off is noticed here
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise BadRequest(
            f"expected a NIfTI image in {path.name}, which cannot be read ({type(error).__name__}): copy it again",
            code="dataset.format",
        ) from None
    return image


def _other_mask(path: Path, got: str) -> BadRequest:
    return BadRequest(
        f"expected the betas in {path.name} in the space of the mask, got {got}: resample the mask to the betas",
        code="dataset.mask",
    )
