"""What a calibration measured, as one record: written beside the bundle, read by its report.

Whoever calibrates fills it: from recorded runs, or trial by trial while a visit goes on. Everything in it is of trials
that the decoder was not fitted to. Knows nothing of how it was measured. V voxels of the mask, K reconstructions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

from mindsight.accuracy import Accuracy
from mindsight.errors import ModelMismatch
from mindsight.files.durable import write_durably
from mindsight.preprocessing.registration.report import How
from mindsight.stages import Stage
from mindsight.weights.tensors import map_tensors, write_tensors

RECORD, ARRAYS = "record.json", "record.safetensors"
VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutTrial:
    """One trial at one stage, decoded by a decoder that was not fitted to it. Ranks are from 1.

    image : id in the pool of what was shown
    first : id of the first candidate, of which ``confidence`` is the probability
    image_rank, n_images : of the image shown, among the candidates (image retrieval)
    brain_rank, n_brains : of the trial itself, among trials that showed other images and itself, by the score with its
        image (brain retrieval)
    n_run : betas of the run when this one came
    decoder : digest of what decoded it; empty if it was not saved
    """

    run: int
    trial: int
    stage: Stage
    image: str
    first: str
    image_rank: int
    n_images: int
    brain_rank: int
    n_brains: int
    confidence: float
    n_run: int = 0
    decoder: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningPoint:
    """Accuracy (first of the candidates, final stage) of decoders that were fitted to this amount of data.

    trials : mean number of trials that the decoders were fitted to
    minutes : scanned for them
    tested_on : numbers of the runs that gave ``accuracy``, the same for every point of a curve
    """

    trials: int
    minutes: float
    accuracy: Accuracy
    tested_on: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseCeiling:
    """What the repeats of images tell of single trials, whatever the decoder.

    images, trials : images that were shown more than once, and their trials
    signal_share_median, signal_share_p90 : over the mask's voxels, the share of a single trial's variance that is the
        image's: its noise ceiling of explained variance (the square root is that of a correlation)
    reliable_voxels : voxels with a share above 0 at p < 0.01 (F test); by chance 1 % of them
    voxels : that were tested
    identified : how often the mean of an image's other trials is the nearest of all images' means: a decoder that knows
        nothing but the repeats; None where they are all in one run
    """

    images: int
    trials: int
    signal_share_median: float
    signal_share_p90: float
    reliable_voxels: int
    voxels: int
    identified: Accuracy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """An accuracy that must be at chance. what : in words, for example "labels shuffled before the fit"."""

    what: str
    accuracy: Accuracy

    @property
    def leaks(self) -> bool:
        """Whether it is above chance."""
        return self.accuracy.interval[0] > self.accuracy.chance


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuality:
    """Motion and quality of one run; None where it was not measured.

    censored, missing : numbers of volumes
    flagged : trials whose response holds such a volume
    tsnr : median over the mask at the end of the run
    alerts : texts of what was raised
    """

    run: int
    volumes: int
    minutes: float
    trials: int
    censored: int
    missing: int
    flagged: int
    fd_mm_mean: float | None
    fd_mm_max: float | None
    dvars_percent_median: float | None
    tsnr: float | None
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRegistration:
    """Where a run's head was, by its first volume; see ``RegistrationReport``. text : one line for people."""

    run: int
    how: How
    trusted: bool
    displacement_mm: float
    coverage: float
    unexplained: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnTrial:
    """A reconstruction of the trial at this stage; its pixels are in ``CalibrationRecord.drawn_KHW3``."""

    run: int
    trial: int
    stage: Stage
    image: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibrationRecord:
    """Everything that one calibration measured.

    created : UTC, ISO 8601
    decoder : kind, and how it was fitted, in words
    held_out : how trials were left out, in words
    pool_size : candidates
    minutes : scanned in all
    trials : at every stage, in the order of the runs
    curve : with growing amounts of data; two points or more allow a prediction
    ceiling : None without repeats
    reliability_V : (V,) float32 share of a single trial's variance that is the image's, unbiased, so below 0 in about
        half of the voxels without any; NaN where not measured; None without repeats
    drawn : of which trials ``drawn_KHW3`` (uint8) shows reconstructions, evenly spaced; empty and None if nothing is
        drawn
    """

    subject: str
    created: str
    decoder: str
    held_out: str
    pool_size: int
    voxels: int
    minutes: float
    trials: tuple[LeftOutTrial, ...]
    curve: tuple[LearningPoint, ...] = ()
    ceiling: NoiseCeiling | None = None
    controls: tuple[Control, ...] = ()
    runs: tuple[RunQuality, ...] = ()
    registrations: tuple[RunRegistration, ...] = ()
    drawn: tuple[DrawnTrial, ...] = ()
    reliability_V: NDArray[np.float32] | None = None
    drawn_KHW3: NDArray[np.uint8] | None = None

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    def save(self, folder: Path) -> None:
        """Write ``record.json`` and, if there are arrays, ``record.safetensors`` into a folder that exists."""
        self._check()
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        if arrays:
            write_tensors(folder / ARRAYS, arrays)
        document = {"version": VERSION, "arrays": sorted(arrays), "record": self.as_json()}
        write_durably(folder / RECORD, json.dumps(document, indent=1, allow_nan=False).encode() + b"\n")

    def as_json(self) -> dict[str, Any]:
        """All but the arrays."""
        plain: dict[str, Any] = _RECORD.dump_python(self, mode="json", exclude=set(_ARRAYS))
        return plain

    @classmethod
    def load(cls, folder: Path) -> CalibrationRecord:
        """Read what ``save`` wrote. Raises ModelMismatch (``calibration.record``) for a damaged or another record."""
        try:
            document = json.loads((folder / RECORD).read_bytes())
            version, names = document["version"], list(document["arrays"])
            if version != VERSION or not set(names) <= set(_ARRAYS):
                raise _unreadable(f"version {version!r} with the arrays {names}")
            record = _RECORD.validate_python(document["record"])
            arrays = map_tensors(folder / ARRAYS) if names else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise _unreadable(type(error).__name__) from None
        if sorted(arrays) != names:
            raise _unreadable(f"the arrays {sorted(arrays)} where {names} are listed")
        record = replace(record, reliability_V=arrays.get("reliability_V"), drawn_KHW3=arrays.get("drawn_KHW3"))
        record._check()
        return record

    def of_stage(self, stage: Stage) -> tuple[LeftOutTrial, ...]:
        """The trials at one stage."""
        return tuple(trial for trial in self.trials if trial.stage == stage)

    def _check(self) -> None:
        if self.reliability_V is not None and self.reliability_V.shape != (self.voxels,):
            raise _unreadable(f"a reliability of the shape {self.reliability_V.shape} for {self.voxels} voxels")
        if (0 if self.drawn_KHW3 is None else len(self.drawn_KHW3)) != len(self.drawn):
            raise _unreadable(f"{len(self.drawn)} trials that were drawn, and another number of reconstructions")


_ARRAYS = ("reliability_V", "drawn_KHW3")
_RECORD = TypeAdapter(CalibrationRecord)


def _unreadable(why: str) -> ModelMismatch:
    return ModelMismatch(
        f"expected the record of a calibration, version {VERSION}, got {why}: calibrate again",
        code="calibration.record",
    )


def ranks_both_ways(
    scores_KN: NDArray[Any], shown_K: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(K,) rank of the image shown among the N candidates; (K,) rank of the trial among the trials that showed other
    images and itself; (K,) the number of these. From 1; of equal scores the right one ranks last.

    scores_KN : of K left-out trials with N candidates
    shown_K : candidate that each trial showed
    """
    own_K = np.take_along_axis(scores_KN, shown_K[:, None], axis=1)
    image_rank_K = (scores_KN >= own_K).sum(axis=1)
    others_KK = shown_K[:, None] != shown_K[None]  # row: the image of this trial; column: another trial
    better_KK = own_K <= scores_KN[:, shown_K].T
    return image_rank_K, 1 + (better_KK & others_KK).sum(axis=1), 1 + others_KK.sum(axis=1)
