"""What the archive is told of a session: plain records, filled by whoever knows the log and the blobs.

Knows nothing of either, nor of BIDS. T volumes of a run, V voxels of the mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.events import RunEvent
from mindsight.stages import Stage
from mindsight.volume import Volume


@dataclass(frozen=True, slots=True)
class ArchivedEvent:
    """What was shown.

    trial : its number in the run, from 1, None where it is not decoded
    stimulus : digest of the picture
    candidate : its id in the decoder's pool, None where the event does not say
    """

    event: RunEvent
    trial: int | None = None
    stimulus: str | None = None
    candidate: str | None = None


@dataclass(frozen=True, slots=True)
class ArchivedAnswer:
    """What the brain said of one trial at one stage.

    retrieved : digest of the closest candidate's image, retrieved_label its label
    reconstruction : digest of the image that was made
    caption : the sentence that was said of it
    details : everything else of the answer, as JSON knows it, under names of its own; written as it is
    """

    run: int
    trial: int
    stage: Stage
    confidence: float | None = None
    retrieved: str | None = None
    retrieved_label: str | None = None
    reconstruction: str | None = None
    caption: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ArchivedPlace:
    """Where a run's head was in the subject's space.

    rigid : (4, 4) mm of the subject's reference → mm of the run's volumes
    details : how it was found and how good it is, as JSON knows it; written as it is
    picture : digest
    """

    rigid: NDArray[np.float64]
    details: Mapping[str, Any]
    picture: str | None = None


@dataclass(frozen=True, eq=False)
class ArchivedRun:
    """One run.

    volumes : T volumes in order, None for a TR that is missing; consumed once, one held at a time
    motion_T6 : translations in mm along x, y, z, then rotations in rad about them; NaN where unknown
    fd_mm_T, dvars_percent_T : NaN where unknown
    censored_T : bool, the volume took no part in the betas
    series_TV : (T, V) float32, the mask's voxels after realignment, in C order; None where they were not kept
    residual_T, outlier_slices_T : see ``preprocessing.Aligned``, the latter their number; NaN where unknown
    high_pass_hz : cut of the model's drifts; None where it is not known
    place : None where nobody looked for it
    motion_order : of the motion parameters that the volumes bring: "translations", "rotations" or "unknown"; None where
        they bring none
    betas : (trial, stage) → (V,) in C order of the session's mask; looked up one at a time, so it may be lazy
    errors : the same of the betas' standard errors, where they were kept
    """

    run: int
    task: str
    tr_s: float
    n_volumes: int
    volumes: Iterable[Volume | None]
    events: Sequence[ArchivedEvent]
    motion_T6: NDArray[np.float64]
    fd_mm_T: NDArray[np.float64]
    dvars_percent_T: NDArray[np.float64]
    censored_T: NDArray[np.bool_]
    series_TV: NDArray[np.float32] | None = None
    residual_T: NDArray[np.float64] | None = None
    outlier_slices_T: NDArray[np.float64] | None = None
    high_pass_hz: float | None = None
    place: ArchivedPlace | None = None
    motion_order: str | None = None
    betas: Mapping[tuple[int, Stage], NDArray[np.float32]] = field(default_factory=dict)
    errors: Mapping[tuple[int, Stage], NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ArchivedSession:
    """One session.

    subject, session : the pseudonym and the session's name; what BIDS does not allow in a label is left out
    runs : consumed once, in order
    mask_XYZ, affine : the decoder's voxels and where they are, in RAS+ millimetres; None where nothing was decoded
    images : digest → PNG, JPEG or WebP; looked up one at a time, so it may be lazy; one that is gone is left out
    provenance : versions, digests and parameters, as JSON knows them
    """

    subject: str
    session: str
    runs: Iterable[ArchivedRun]
    mask_XYZ: NDArray[np.bool_] | None = None
    affine: NDArray[np.float64] | None = None
    answers: Sequence[ArchivedAnswer] = ()
    images: Mapping[str, bytes] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
