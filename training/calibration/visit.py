"""Calibrate a subject while the visit goes on: a first decoder after the first run, a better one after most others.

Runs come in as betas, bundles come out. After each run the ridge layer is fitted again in closed form to all trials so
far. The new decoder replaces the one before only if it gives what was shown more probability, on trials that are left
out of both. What was found is kept in a scratch folder, from which a calibration that was interrupted
goes on; it then yields the same bundles.

Letters: K trials, V voxels, N images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import DecoderWeights
from mindsight.errors import BadRequest, Conflict
from mindsight.evaluation.calibration_record import CalibrationRecord, LearningPoint
from mindsight.files.digest import sha256_of_file, sha256_of_json
from mindsight.files.durable import make_folder, write_durably
from mindsight.files.manifest import MANIFEST
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import CandidatePool, ReducedIndex
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.left_out import Gain
from training.calibration.ranked import Kinds, Ranked
from training.calibration.runs import Labels
from training.calibration.so_far import Claims, SoFar
from training.calibration.visit_record import record_of
from training.calibration.visit_runs import CalibrationRun

if TYPE_CHECKING:
    from training.calibration.gradient import Look, Recipe

_WAIT = {"calibration.trials", "calibration.repeats", "calibration.labels"}  # more runs may bring what is missing


@dataclass(frozen=True, eq=False, kw_only=True)
class Visit:
    """What a calibration is of.

    options : of the betas, in calibration and in sessions after it
    space : of the betas; a bundle's has the reliable voxels among them
    stimuli : what the runs show; their labels name its candidates by id or by file
    pool : that sessions rank; None: ``stimuli``
    index : the pool's sketch, if it has one
    backbone : folder of a MindEye2 that subjects share, see ``heads.BackboneHead`` and ``ranked``; None: a linear
        decoder into the embeddings of the stimuli
    hold_out : trials that are left out together: by "image" with all its repeats, or by "run" for candidates that are
        shown in every run, such as labels
    labels : column of the events that named the stimuli
    fine_tuning : gradient steps after the last run, from the closed form; None: none
    """

    subject: str
    created: datetime
    options: IngestOptions
    space: SubjectSpace
    stimuli: CandidatePool
    pool: CandidatePool | None = None
    index: ReducedIndex | None = None
    backbone: Path | None = None
    hold_out: Literal["image", "run"] = "image"
    labels: Labels | None = None
    fine_tuning: Recipe | None = None

    @property
    def ranked(self) -> CandidatePool:
        return self.stimuli if self.pool is None else self.pool

    @property
    def created_text(self) -> str:
        return self.created.astimezone(UTC).isoformat(timespec="seconds")

    def digest(self) -> str:
        """Of what a calibration that goes on must have in common with the one that was interrupted."""
        backbone = "" if self.backbone is None else self.backbone.name
        if self.backbone is not None and (self.backbone / MANIFEST).is_file():
            backbone = sha256_of_file(self.backbone / MANIFEST)
        return sha256_of_json(
            {
                "subject": self.subject,
                "created": self.created_text,
                "stimuli": self.stimuli.digest,
                "pool": self.ranked.digest,
                "voxels": self.space.n_voxels,
                "backbone": backbone,
                "hold_out": self.hold_out,
                "options": repr(self.options),
                "fine_tuning": repr(self.fine_tuning),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a calibration is.

    stage : what has just been done, or is being done
    done, total : runs, or gradient steps at most; total is None while it is not known
    left_s : of computing, not of scanning; None while it is not known
    curve : accuracy on each run of the decoder of the runs before it
    look : at the images that decide when gradient steps stop
    """

    stage: Literal["betas", "closed form", "fine-tuning", "fine-tuning, all trials"]
    done: int
    total: int | None
    left_s: float | None
    curve: tuple[LearningPoint, ...] = ()
    look: Look | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibrated:
    """A decoder that is better than the one before.

    bundle : not saved yet; the scratch folder must stay until it is
    record : what was measured, see ``CalibrationRecord``; save it beside the bundle
    gain : over the decoder before, on images that neither was fitted to; None of the first
    """

    bundle: Bundle
    record: CalibrationRecord
    runs: tuple[int, ...]
    how: str
    gain: Gain | None


def calibrate_visit(
    visit: Visit,
    runs: Iterable[CalibrationRun],
    scratch: Path,
    *,
    n_runs: int | None = None,
    once: bool = False,
    report_progress: Callable[[Progress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Calibrated]:
    """Each better decoder, as it is found.

    runs : as they end, in their order; to go on after an interruption, all of them again from the first
    scratch : a folder of this calibration alone; it is made if it does not exist. What a bundle's consumer did not take
        (it did not ask for the next) is yielded again after an interruption
    n_runs : how many there will be, if it is known
    once : fit after the last of the ``n_runs`` runs only
    cancelled : asked between steps; the iterator then ends, and may be started again

    Raises Conflict (``calibration.scratch``) for the scratch folder of another calibration; BadRequest, see
    ``check_betas``, once the runs have ended, or at once for what more runs cannot mend; ModelMismatch
    (``pool.unknown_candidate``, ``pool.query_shape``, ``decoder.voxel_count``).
    """
    kinds = Kinds(visit.backbone, visit.ranked, visit.stimuli, visit.space.n_voxels)
    log = _Log.open(scratch, visit)
    yield from _Calibration(visit, kinds, log, n_runs, once, report_progress, cancelled).over(runs)


@dataclass(frozen=True, eq=False)
class _Log:
    """What the scratch folder holds: the runs that are done with, and after which one the present decoder was fitted.

    curve : points of the learning curve so far
    """

    file: Path
    digest: str
    done: list[int] = field(default_factory=list)
    fitted_after: list[int] = field(default_factory=list)
    curve: list[LearningPoint] = field(default_factory=list)
    fine_tuned: bool = False

    @classmethod
    def open(cls, scratch: Path, visit: Visit) -> _Log:
        make_folder(scratch)
        file, digest = scratch / "visit.json", visit.digest()
        if not file.is_file():
            return cls(file, digest)
        held = json.loads(file.read_bytes())
        if held["visit"] != digest:
            raise Conflict(
                "expected the scratch folder of this calibration, got that of another one (its subject, stimuli, mask"
                " or options differ): name a new folder",
                code="calibration.scratch",
            )
        curve = [_point(each) for each in held["curve"]]
        return cls(file, digest, held["done"], held["fitted_after"], curve, held["fine_tuned"])

    @property
    def scratch(self) -> Path:
        return self.file.parent

    def keep(self, fine_tuned: bool = False) -> None:
        held = {
            "visit": self.digest,
            "done": self.done,
            "fitted_after": self.fitted_after,
            "curve": [asdict(point) for point in self.curve],
            "fine_tuned": fine_tuned,
        }
        write_durably(self.file, json.dumps(held, indent=1).encode() + b"\n")


@dataclass(eq=False)
class _Calibration:
    visit: Visit
    kinds: Kinds
    log: _Log
    n_runs: int | None
    once: bool
    report_progress: Callable[[Progress], None]
    cancelled: Callable[[], bool]
    present: Ranked | None = None
    spent_s: list[float] = field(default_factory=list)

    def over(self, runs: Iterable[CalibrationRun]) -> Iterator[Calibrated]:
        so_far, refused = SoFar(self.visit.hold_out), None
        for run in runs:
            if self.cancelled():
                return
            so_far.add(run, self._shown(run), self.visit.space.n_voxels)
            self._report("betas", so_far)
            if self.once and self.n_runs is not None and len(so_far.done) < self.n_runs:
                continue
            if run.run in self.log.done:
                if run.run in self.log.fitted_after[-1:]:
                    self.present = self.kinds.fit(so_far)
                continue
            started = time.perf_counter()
            try:
                refused = None
                so_far.check()
            except BadRequest as error:
                if error.code not in _WAIT:
                    raise
                refused = error
                continue
            better = self._after(run, so_far)
            self.spent_s.append(time.perf_counter() - started)
            self._report("closed form", so_far)
            if self.cancelled():
                return
            if better is not None:
                yield better
                self.log.fitted_after.append(run.run)
            self.log.done.append(run.run)
            self.log.keep()
        if refused is not None and self.present is None:
            raise refused
        if not self.log.fine_tuned and (tuned := self._fine_tuned(so_far)) is not None:
            yield tuned
            self.log.keep(fine_tuned=True)

    def _after(self, run: CalibrationRun, so_far: SoFar) -> Calibrated | None:
        """The decoder of all runs so far, if it is better than the one before."""
        found, gain, before = self.kinds.fit(so_far), None, self.present
        if before is not None:
            head, images = before.kind.head, before.kind.images
            point = so_far.tested(before.fitted, head, images, run.run)
            self.log.curve[:] = [each for each in self.log.curve if each.tested_on != point.tested_on] + [point]
            gain = so_far.gain(before.fitted, found.fitted, head, images)
            if gain.mean <= 0.0:
                return None
        self.present = found
        decoder = found.weights(self.log.scratch / f"decoder-{run.run:03d}.safetensors")
        claims = so_far.claims(found.fitted, found.kind.head, found.kind.images)
        return self._made(so_far, found, claims, decoder, found.how, gain)

    def _fine_tuned(self, so_far: SoFar) -> Calibrated | None:
        """The present decoder after gradient steps, if these made it better."""
        from training.calibration.visit_fine_tuning import fine_tuned_claims

        recipe, present = self.visit.fine_tuning, self.present
        if recipe is None or present is None or (start := self.kinds.under_backbone(present)) is None:
            return None

        def report(look: Look, until: int | None) -> bool:
            self.report_progress(
                Progress(
                    stage="fine-tuning" if until is None else "fine-tuning, all trials",
                    done=look.step,
                    total=until or recipe.steps,
                    left_s=None,
                    curve=tuple(self.log.curve),
                    look=look if until is None else None,
                )
            )
            return not self.cancelled()

        found = fine_tuned_claims(start, present, so_far, recipe, self.log.scratch, report)
        if found is None or self.cancelled():
            return None
        claims, decoder, gain = found
        how = f"{start.kind.head.what}: fine-tuned from {start.fitted.way}"
        return self._made(so_far, start, claims, decoder, how, gain)

    def _made(
        self, so_far: SoFar, found: Ranked, claims: Claims, decoder: DecoderWeights, how: str, gain: Gain | None
    ) -> Calibrated:
        head, images, keep_V = found.kind.head, found.kind.images, found.keep_V
        calibration, came = so_far.calibrate(claims, head, images, self.visit.ranked)
        bundle = Bundle(
            subject=self.visit.subject,
            created=self.visit.created_text,
            options=self.visit.options,
            space=narrowed(self.visit.space, keep_V),
            statistics=so_far.statistics(keep_V),
            calibration=calibration,
            pool=self.visit.ranked,
            decoder=decoder,
            index=self.visit.index,
            baseline=so_far.baseline(keep_V),
            labels=self.visit.labels,
            accuracy=claims.left_out.accuracy(claims.shown_K),
        )
        record = record_of(bundle.subject, bundle.created, so_far, found, calibration, came)
        record = replace(record, decoder=how, held_out=claims.held_out or record.held_out)
        return Calibrated(bundle=bundle, record=record, runs=so_far.runs, how=how, gain=gain)

    def _shown(self, run: CalibrationRun) -> dict[int, int]:
        stimuli = self.visit.stimuli
        return {trial: stimuli.index_of(stimuli.named(label)) for trial, label in run.shown.items()}

    def _report(self, stage: Literal["betas", "closed form"], so_far: SoFar) -> None:
        done, left_s = len(so_far.runs), None
        if self.n_runs is not None and self.spent_s:
            left_s = (self.n_runs - done + (stage == "betas")) * self.spent_s[-1]
        self.report_progress(
            Progress(stage=stage, done=done, total=self.n_runs, left_s=left_s, curve=tuple(self.log.curve))
        )


def narrowed(space: SubjectSpace, keep_V: NDArray[np.bool_]) -> SubjectSpace:
    """The same space with these voxels of its mask."""
    mask_XYZ = np.zeros(space.mask_XYZ.shape, np.bool_)
    mask_XYZ[space.mask_XYZ] = keep_V
    return replace(
        space,
        mask_XYZ=mask_XYZ,
        hrf_V=None if space.hrf_V is None else space.hrf_V[keep_V],
        lag_V=None if space.lag_V is None else space.lag_V[keep_V],
        noise_pool_V=None if space.noise_pool_V is None else space.noise_pool_V[keep_V],
    )


def _point(held: dict[str, object]) -> LearningPoint:
    from pydantic import TypeAdapter

    return TypeAdapter(LearningPoint).validate_python(held)
