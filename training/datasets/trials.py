"""Trials to train on: a beta, the image that was shown, and where in whose scanning it was.

Knows nothing of where they come from (``sources``) or of what is trained. Letters: K trials of one subject, V voxels
of the subject's mask, B trials that are read at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest


class Betas(Protocol):
    """(K, V) single-trial betas of one subject, which may lie on the disk."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def read(self, rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, V) of these trials."""


@dataclass(frozen=True, eq=False)
class ArrayBetas:
    """Betas in memory."""

    betas_KV: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        n, voxels = self.betas_KV.shape
        return n, voxels

    def read(self, rows_B: NDArray[np.int64]) -> NDArray[np.float32]:
        taken_BV: NDArray[np.float32] = self.betas_KV[rows_B]
        return taken_BV


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial.

    session, run : names or numbers as the source has them
    repeat : which showing of the image to this subject it was, from 1
    """

    beta_V: NDArray[np.float32]
    image: str
    subject: str
    session: str
    run: int
    repeat: int


@dataclass(frozen=True, eq=False)
class SubjectTrials:
    """One subject's trials in the order in which they were scanned.

    subject : pseudonym
    betas : (K, V), as the source has them
    images, sessions, runs : of each trial
    space : digest of the voxels' mask; empty if the source does not know it
    fixed : of each trial, whether its image is in the source's own test set; empty without one
    scored : whether the source has z-scored the betas by session, from training trials
    """

    subject: str
    betas: Betas
    images: tuple[str, ...]
    sessions: tuple[str, ...]
    runs: tuple[int, ...]
    space: str = ""
    fixed: tuple[bool, ...] = ()
    scored: bool = False

    def __post_init__(self) -> None:
        """Raises BadRequest (``dataset.half``)."""
        lengths = {len(self.images), len(self.sessions), len(self.runs), len(self.fixed or self.images)}
        if lengths != {self.betas.shape[0]}:
            raise BadRequest(
                f"expected one image, session and run for each beta of subject {self.subject}, got"
                f" {self.betas.shape[0]} betas, {len(self.images)} images, {len(self.sessions)} sessions and"
                f" {len(self.runs)} runs: complete the data, or leave out what has no betas",
                code="dataset.half",
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def voxels(self) -> int:
        return self.betas.shape[1]

    @cached_property
    def repeats(self) -> tuple[int, ...]:
        """Of each trial: which showing of its image it was, from 1."""
        shown: Counter[str] = Counter()
        numbers = []
        for image in self.images:
            shown[image] += 1
            numbers.append(shown[image])
        return tuple(numbers)

    def trial(self, row: int) -> Trial:
        beta_V = self.betas.read(np.array([row]))[0]
        return Trial(beta_V, self.images[row], self.subject, self.sessions[row], self.runs[row], self.repeats[row])

    def rows_of(self, images: set[str]) -> NDArray[np.int64]:
        """Trials that showed one of these images, in order."""
        return np.array([row for row, image in enumerate(self.images) if image in images], np.int64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The trials of several subjects, each with voxels of its own.

    Raises BadRequest (``dataset.none``, ``dataset.subject``).
    """

    subjects: tuple[SubjectTrials, ...]

    def __post_init__(self) -> None:
        if not any(map(len, self.subjects)):
            raise BadRequest("expected trials to train on, got none: check the sources' folders", code="dataset.none")
        names = Counter(subject.subject for subject in self.subjects)
        if twice := [name for name, n in names.items() if n > 1]:
            raise BadRequest(
                f"expected each subject once, got {twice[0]} from several sources: name each source's subjects apart",
                code="dataset.subject",
            )

    def __len__(self) -> int:
        return sum(map(len, self.subjects))

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Every image that was shown to somebody, once, sorted."""
        return tuple(sorted({image for subject in self.subjects for image in subject.images}))

    @cached_property
    def fixed_test(self) -> frozenset[str]:
        """Images that a source keeps for tests."""
        return frozenset(
            image
            for subject in self.subjects
            for image, fixed in zip(subject.images, subject.fixed, strict=False)
            if fixed
        )

    def __iter__(self) -> Iterator[Trial]:
        for subject in self.subjects:
            for row in range(len(subject)):
                yield subject.trial(row)


def joined_sessions(parts: Sequence[SubjectTrials]) -> SubjectTrials:
    """Sessions of one subject, one after the other.

    Raises BadRequest (``dataset.mask``) if they are of other voxels, (``dataset.subject``) if of other subjects.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.subject != first.subject:
            raise BadRequest(
                f"expected sessions of one subject, got {first.subject} and {part.subject}", code="dataset.subject"
            )
        if part.voxels != first.voxels or (part.space and first.space and part.space != first.space):
            raise BadRequest(
                f"expected all sessions of subject {first.subject} in one mask, session {part.sessions[0]} has"
                f" {part.voxels} voxels of mask {part.space[:12] or 'unknown'}, session {first.sessions[0]}"
                f" {first.voxels} of {first.space[:12] or 'unknown'}: register them to one reference, or leave the"
                " session out",
                code="dataset.mask",
            )
    if len(parts) == 1:
        return first

    def chained(field: str) -> tuple[Any, ...]:
        return tuple(value for part in parts for value in getattr(part, field))

    betas_KV = np.concatenate([part.betas.read(np.arange(len(part))) for part in parts])
    return SubjectTrials(
        first.subject,
        ArrayBetas(betas_KV),
        chained("images"),
        chained("sessions"),
        chained("runs"),
        first.space,
        chained("fixed") if all(part.fixed for part in parts) else (),
        all(part.scored for part in parts),
    )
