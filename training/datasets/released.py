"""Trials of the released MindEye2 files (Natural Scenes Dataset): webdataset tars, betas and images in HDF5.

``betas_all_subj0S_fp32_renorm.hdf5`` holds ``betas`` (n, V), z-scored by session from training trials;
``wds/subj0S/train/{i}.tar`` the training trials of session i + 1, ``wds/subj0S/new_test/0.tar`` those of the 1,000
images that all subjects saw; each sample a ``behav.npy`` (1, 17) with the image's number, subject, session, run and the
row of its beta. Letters: K trials, V voxels, C columns.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.files.arrays import HDF5_DAMAGED, parse_npy
from training.datasets.trials import SubjectTrials

IMAGES = "coco_images_224_float16.hdf5"
_BEHAVIOUR, _COLUMNS = "behav.npy", 17
_IMAGE, _SUBJECT, _SESSION, _RUN, _ROW = 0, 1, 2, 3, 5
_N_IMAGES = 73_000


@dataclass(frozen=True, eq=False)
class Hdf5Betas:
    """Rows of a file's dataset ``betas``.

    at_K : row of each trial
    """

    array: Any
    at_K: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.at_K), int(self.array.shape[1])

    def read(self, rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
        """In the order that is asked for; HDF5 reads each row once, forwards."""
        rows, places = np.unique(self.at_K[rows_B], return_inverse=True)
        read_RV = np.asarray(self.array[rows], np.float32) if len(rows) else np.empty((0, self.shape[1]), np.float32)
        taken_BV: NDArray[np.float32] = read_RV[places]
        return taken_BV


def read_released(
    folder: Path, subjects: Sequence[int], sessions: int | None = None, n_images: int = _N_IMAGES
) -> tuple[SubjectTrials, ...]:
    """The subjects' trials, those of the shared images marked as the source's test set.

    sessions : how many of each subject, from the first; None: all that are there. "One hour" is one
    n_images : in the file of images, for the names

    Raises BadRequest: ``dataset.half`` if a file is missing, cut off, or refers to betas that are not there.
    """
    return tuple(_subject(folder, subject, sessions, n_images) for subject in subjects)


def _subject(folder: Path, subject: int, sessions: int | None, n_images: int) -> SubjectTrials:
    import h5py

    betas = folder / f"betas_all_subj{subject:02d}_fp32_renorm.hdf5"
    tars = sorted((folder / f"wds/subj{subject:02d}/train").glob("*.tar"), key=lambda path: (len(path.stem), path.stem))
    wanted = len(tars) if sessions is None else sessions
    if not tars or [path.stem for path in tars[:wanted]] != [str(i) for i in range(wanted)]:
        raise _half(
            f"expected the tars 0 to {max(wanted, 1) - 1} of subject {subject}'s sessions, got"
            f" {', '.join(path.stem for path in tars) or 'none'}"
        )
    test = folder / f"wds/subj{subject:02d}/new_test/0.tar"
    training_K = np.concatenate([_behaviour(path) for path in tars[:wanted]])
    test_K = _behaviour(test)
    try:
        array = h5py.File(betas, "r")["betas"]
    except HDF5_DAMAGED as error:
        raise _half(f"expected {betas.name} with a dataset betas ({error})") from None
    table_KC = np.concatenate([training_K, test_K])
    _require_rows(table_KC, subject, len(array), n_images)
    order = np.argsort(table_KC[:, _ROW], kind="stable")
    table_KC = table_KC[order]
    width = len(str(n_images - 1))
    return SubjectTrials(
        f"{subject:02d}",
        Hdf5Betas(array, table_KC[:, _ROW]),
        tuple(f"{image:0{width}d}" for image in table_KC[:, _IMAGE]),
        tuple(f"{session:02d}" for session in table_KC[:, _SESSION]),
        tuple(int(run) for run in table_KC[:, _RUN]),
        f"nsdgeneral-{subject:02d}",
        tuple((order >= len(training_K)).tolist()),
        scored=True,
    )


def _behaviour(path: Path) -> NDArray[np.int64]:
    """(K, 17) one row for each sample of the tar. Raises BadRequest (``dataset.half``)."""
    try:
        _require_end(path)
        with tarfile.open(path) as tar:
            rows = [row for member in tar if member.name.endswith(f".{_BEHAVIOUR}") for row in _rows(tar, member)]
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        raise _half(f"expected the trials in {path.parent.name}/{path.name}, which cannot be read ({error})") from None
    if not rows:
        raise _half(f"expected samples with {_BEHAVIOUR} in {path.parent.name}/{path.name}, got none")
    table_KC: NDArray[np.int64] = np.stack(rows).astype(np.int64)
    return table_KC


def _require_end(path: Path) -> None:
    """A tar ends in two blocks of zeros; one that was cut off between two members is read without an error."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, 1024), 2)
        if file.read() != bytes(1024):
            raise ValueError("it was cut off")


def _rows(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[NDArray[Any]]:
    file = tar.extractfile(member)
    held = parse_npy(b"" if file is None else file.read())
    if held.shape != (1, _COLUMNS):
        raise ValueError(f"{member.name} has the shape {held.shape}, expected (1, {_COLUMNS})")
    yield np.nan_to_num(held[0], nan=-1.0)


def _require_rows(table_KC: NDArray[np.int64], subject: int, n_betas: int, n_images: int) -> None:
    checks = {
        "of this subject": table_KC[:, _SUBJECT] == subject,
        f"whose betas are there, rows 0 to {n_betas - 1}": (table_KC[:, _ROW] >= 0) & (table_KC[:, _ROW] < n_betas),
        f"of images 0 to {n_images - 1}": (table_KC[:, _IMAGE] >= 0) & (table_KC[:, _IMAGE] < n_images),
    }
    for what, holds_K in checks.items():
        if not holds_K.all():
            raise _half(f"expected trials {what} in the tars of subject {subject}, {int((~holds_K).sum())} are not")
    if len(np.unique(table_KC[:, _ROW])) < len(table_KC):
        raise _half(f"expected each beta of subject {subject} once, got one in several samples of the tars")


def _half(text: str) -> BadRequest:
    return BadRequest(f"{text}: download the files again, all of them", code="dataset.half")
