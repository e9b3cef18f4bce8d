"""A small session with everything that a session can have."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from mindsight.archive import ArchivedEvent, ArchivedRegistration, ArchivedResult, ArchivedRun, ArchivedSession
from mindsight.events import RunEvent
from mindsight.volume import Volume

AFFINE = np.array([[-3.0, 0, 0, 12], [0, 2.9, -0.5, -20], [0, 0.5, 3.2, -9], [0, 0, 0, 1]])
PLACE = np.array([[1, 0, 0, 4.25], [0, 0.96, -0.28, 1e-5], [0, 0.28, 0.96, -7], [0, 0, 0, 1]])
SHAPE, N_VOLUMES, TR_S = (8, 9, 6), 20, 1.5
MISSING = (0, 7)


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def raw_volumes(run: int) -> list[Volume | None]:
    rng = np.random.default_rng(run)
    data = rng.integers(0, 4000, (N_VOLUMES, *SHAPE)).astype(np.uint16)
    times_s = np.linspace(0, TR_S * 0.9, SHAPE[2])
    return [
        None
        if t in MISSING
        else Volume(data[t], AFFINE, TR_S, run, t, acquired_s=1.7e9 + t * TR_S, slice_times_s=times_s)
        for t in range(N_VOLUMES)
    ]


def make_run(run: int, mask_XYZ: np.ndarray, stimuli: list[str]) -> ArchivedRun:
    rng = np.random.default_rng(100 + run)
    n = int(mask_XYZ.sum())
    motion_T6 = rng.normal(0, 0.1, (N_VOLUMES, 6))
    fd_mm_T = rng.random(N_VOLUMES)
    motion_T6[list(MISSING)], fd_mm_T[0] = np.nan, np.nan
    censored_T = np.zeros(N_VOLUMES, dtype=bool)
    censored_T[[3, 11]] = True
    return ArchivedRun(
        run=run,
        task="scenes_1",
        tr_s=TR_S,
        n_volumes=N_VOLUMES,
        volumes=iter(raw_volumes(run)),
        events=[
            ArchivedEvent(RunEvent(12.0, 3.0, "beach"), trial=3, stimulus=stimuli[2]),
            ArchivedEvent(RunEvent(0.0, 3.0, "tree"), trial=1, stimulus=stimuli[0]),
            ArchivedEvent(RunEvent(4.0, 3.0, None, "house/1.png"), trial=2),
            ArchivedEvent(RunEvent(8.0, 3.0, "blank"), trial=None),
        ],
        motion_T6=motion_T6,
        fd_mm_T=fd_mm_T,
        dvars_percent_T=rng.random(N_VOLUMES),
        censored_T=censored_T,
        series_TV=rng.normal(1000, 10, (N_VOLUMES, n)).astype(np.float32),
        residual_T=np.full(N_VOLUMES, 0.04),
        outlier_slices_T=np.zeros(N_VOLUMES),
        high_pass_hz=0.05,
        registration=ArchivedRegistration(PLACE, {"how": "registered", "margin": 0.5}, stimuli[2]),
        errors={(trial, "final"): np.full(n, 0.5 * trial, dtype=np.float32) for trial in (1, 2, 3)},
        betas={
            (trial, stage): np.full(n, 100 * run + trial, dtype=np.float32)
            for trial in (1, 2, 3)
            for stage in ("fast", "final")
            if (trial, stage) != (2, "fast")
        },
    )


def make_session(**changes: Any) -> ArchivedSession:
    pictures = [picture(k) for k in range(6)]
    images = {digest(content): content for content in pictures}
    digests = list(images)
    mask_XYZ = np.zeros(SHAPE, dtype=bool)
    mask_XYZ[2:6, 3:7, 1:5] = True
    mask_XYZ[2, 3, 1] = False

    def runs() -> Iterator[ArchivedRun]:
        for run in (1, 2):
            yield make_run(run, mask_XYZ, digests[:3])

    results = [
        ArchivedResult(
            run=run,
            trial=trial,
            stage=stage,
            confidence=0.25 * trial,
            retrieved=digests[3],
            retrieved_label="tree",
            reconstruction=digests[4] if stage == "final" else None,
            token_cosine=0.8 if stage == "final" else None,
            fit_percentile=97.5 if stage == "final" and trial == 1 else None,
            details={"pool_size": 40, "candidates": [{"id": "a", "score": 0.5}], "latency_ms": {"decode": 1.5}},
        )
        for run in (1, 2)
        for trial in (1, 3)
        for stage in ("final", "fast")
    ]
    values: dict[str, Any] = {
        "subject": "S-7f3a",
        "session": "2026_pilot",
        "runs": runs(),
        "mask_XYZ": mask_XYZ,
        "affine": AFFINE,
        "results": results,
        "images": images,
        "provenance": {"mindsight": "0.1.0", "model": "0" * 64, "options": {"fast_s": 6.0}},
    }
    return ArchivedSession(**(values | changes))


def make_decoded_session(**changes: Any) -> ArchivedSession:
    """The same, with the details of results as the service archives them; its events name their candidates."""
    made = make_session(**changes)
    candidates = [{"id": "a", "label": "tree", "score": 0.5}, {"id": "b", "score": 0.1}]
    results = [
        replace(
            result,
            details={
                "result": {
                    "candidates": candidates, "confidence": result.confidence, "chance": 0.025, "pool_size": 40,
                    "normalised_by": "run", "latency_ms": {"retrieval": 100.0 * result.trial}, "pairs": [],
                }
            },
        )
        for result in made.results
    ]  # fmt: skip
    runs = [
        replace(run, events=[replace(event, candidate="a") if event.trial else event for event in run.events])
        for run in made.runs
    ]
    return replace(made, results=results, runs=runs)
