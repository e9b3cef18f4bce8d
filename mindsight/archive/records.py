"""A session as the archive takes it: plain records.

Knows nothing of logs, blobs or BIDS. Letters: T volumes of a run, V voxels of the mask.
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

    trial : number in the run, from 1; None for an event that is not decoded
    stimulus : digest of the image that was shown
    candidate : id of the image in the decoder's pool; None if unknown
    """

    event: RunEvent
    trial: int | None = None
    stimulus: str | None = None
    candidate: str | None = None


@dataclass(frozen=True, slots=True)
class ArchivedResult:
    """One trial decoded at one stage.

    confidence : that the closest candidate is right
    retrieved, retrieved_label : digest of the closest candidate's image, and its label
    reconstruction : digest of the reconstruction
    token_cosine, fit_percentile : its own fit, as in ``protocol.messages.ReconstructionFit``; None if unknown
    from_ranking : share of the reconstruction's tokens that are the candidates' own
    caption : the sentence that was generated
    details : all other fields of the result, as JSON, under other names than the fields here; written unchanged
    """

    run: int
    trial: int
    stage: Stage
    confidence: float | None = None
    retrieved: str | None = None
    retrieved_label: str | None = None
    reconstruction: str | None = None
    token_cosine: float | None = None
    fit_percentile: float | None = None
    from_ranking: float | None = None
    caption: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ArchivedRegistration:
    """A run's registration to the subject's reference.

    rigid : (4, 4) mm of the subject's reference → mm of the run's volumes
    details : method and quality, as JSON; written unchanged
    figure : digest of an image that shows it
    """

    rigid: NDArray[np.float64]
    details: Mapping[str, Any]
    figure: str | None = None


@dataclass(frozen=True, eq=False)
class ArchivedRun:
    """One run.

    volumes : T volumes in order, None for a TR that is missing; consumed once, one held at a time
    motion_T6 : translations in mm along x, y, z, then rotations in rad about them; NaN if unknown
    fd_mm_T, dvars_percent_T : NaN if unknown
    censored_T : bool, volumes excluded from the betas
    series_TV : (T, V) float32, the mask's voxels after realignment, in C order; None if they were not kept
    residual_T, outlier_slices_T : see ``preprocessing.Aligned``, the latter their number; NaN if unknown
    high_pass_hz : cut-off of the model's drifts; None if unknown
    registration : None if the run was not registered
    motion_order : of the motion parameters recorded with the volumes: "translations", "rotations" or "unknown"; None
        without such parameters
    betas : (trial, stage) → (V,) in C order of the session's mask; looked up one at a time, so it may be lazy
    errors : the betas' standard errors in the same form if they were kept
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
    registration: ArchivedRegistration | None = None
    motion_order: str | None = None
    betas: Mapping[tuple[int, Stage], NDArray[np.float32]] = field(default_factory=dict)
    errors: Mapping[tuple[int, Stage], NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ArchivedSession:
    """One session.

    subject, session : the pseudonym and the session's name; characters that BIDS does not allow in a label are dropped
    runs : consumed once, in order
    mask_XYZ, affine : the decoder's voxels and where they are, in RAS+ millimetres; None if nothing was decoded
    results : of all trials at all stages
    images : digest → PNG, JPEG or WebP; looked up one at a time, so it may be lazy; a missing one is left out
    provenance : versions, digests and parameters, as JSON
    """

    subject: str
    session: str
    runs: Iterable[ArchivedRun]
    mask_XYZ: NDArray[np.bool_] | None = None
    affine: NDArray[np.float64] | None = None
    results: Sequence[ArchivedResult] = ()
    images: Mapping[str, bytes] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
