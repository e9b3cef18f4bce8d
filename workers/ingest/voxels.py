"""Answers what people ask about one voxel, from the state that a session's betas come from, in idle time.

Knows nothing of the log: an answer changes nothing.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mindsight.bus import Questions
from mindsight.errors import MindsightError
from mindsight.ingest import IngestSession
from mindsight.protocol.voxels import VoxelCourse, VoxelQuestion

BUDGET_S = 0.05  # a volume that comes meanwhile waits so long at most, and for one answer


def answer_questions(questions: Questions, ingest: IngestSession) -> None:
    """Answer those that wait, within ``BUDGET_S``; one that cannot be answered now is dropped, and asked again."""
    until_s = time.monotonic() + BUDGET_S
    for text in questions.take():
        if time.monotonic() > until_s:
            return
        try:
            answer = _answer(ingest, VoxelQuestion.model_validate_json(text))
        except (MindsightError, ValidationError):
            continue
        questions.answer(text, answer.model_dump_json(exclude_none=True).encode())


def _answer(ingest: IngestSession, asked: VoxelQuestion) -> VoxelCourse:
    found = ingest.voxel_course(asked.run, asked.voxel, asked.trial)
    if found is None:
        return VoxelCourse(**asked.model_dump(), in_mask=False)
    course, censored = found
    return VoxelCourse(
        **asked.model_dump(),
        in_mask=True,
        data=_rounded(course.data_T),
        fit=_rounded(course.fit_T),
        error=_rounded(course.error_T) if np.isfinite(course.error_T).all() else None,
        excluded=tuple(i for i, is_excluded in enumerate(censored) if is_excluded),
    )


def _rounded(values_T: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values_T)
