"""A subject bundle around existing MindEye2 weights, such as the released ones.

Recorded runs add the space, the signal's statistics and the calibration of the scores. The weights do not change.
Letters: B of a batch, K trials, V voxels, N candidates, M shuffled trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import top_k
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.errors import BadRequest, ModelMismatch
from mindsight.files.digest import sha256_of_file
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.retrieval import CandidatePool, ReducedIndex, cosine_scores, fit_stages, fit_temperature
from mindsight.scanner import RecordedRun
from mindsight.scanner.echoes import EchoChoice
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.completed import completed
from training.calibration.fits import LeftOut, Reconstructor
from training.calibration.linear_bundle import BY_RUN
from training.calibration.live import LeftOutScores, by_stage, score_left_out
from training.calibration.record import Calibrated, record_of
from training.calibration.runs import (
    Labels,
    Report,
    final_betas,
    ingest_runs,
    middle_volume,
    open_labelled_runs,
    part,
    run_trials,
    silent,
    statistics_of,
)

if TYPE_CHECKING:
    from mindsight.decoders.mindeye2 import FoldedMindEye2

INGESTED = 0.5  # share of the time that is over, about
_BATCH, _SHUFFLES, _MAX_NULL = 16, 10, 1000


@dataclass(frozen=True)
class Released:
    """The weights, and what they were trained with.

    weights : a folder that ``mindsight convert mindeye2`` wrote, or a ``.safetensors`` file
    mask : NIfTI on the grid of the runs, above 0 in the voxels that the weights read: in C order of that grid, as NSD's
        nsdgeneral is read
    pool : with embeddings of the encoder that the weights were trained towards, see ``encoders.openclip``
    index : the pool's sketch for fast ranking, if it has one
    layer : which of several subjects' ridge layers to use
    """

    weights: Path
    mask: Path
    pool: CandidatePool
    index: ReducedIndex | None = None
    layer: int = 0


def calibrate_released(
    released: Released,
    folders: Sequence[Path],
    labels: Labels,
    subject: str,
    created: datetime,
    scratch: Path,
    options: IngestOptions = BY_RUN,
    echo: EchoChoice = None,
    reconstructor: Reconstructor | None = None,
    in_pool_prior: float | None = None,
    report: Report = silent,
) -> Calibrated:
    """A bundle, not saved yet, whose confidence is fitted to the runs' trials; and its record, without a curve.

    scratch : a folder for the weights of the one layer; needed until the bundle is saved
    options : of calibration and of the sessions after it, kept as they are

    The other arguments and errors are those of ``linear_bundle.calibrate_linear``. Also raises BadRequest
    (``calibration.mask``, ``calibration.weights``), and ModelMismatch if weights, mask and pool do not fit each
    other.
    """
    runs, names = open_labelled_runs(folders, labels, echo)
    index_of = {name: released.pool.index_of(released.pool.named(name)) for name in names}
    space = _space(released.mask, runs[0].recorded)
    path, model = _one_layer(released, space.n_voxels, scratch)
    ingested, baseline = ingest_runs(runs, space, options, part(report, 0.0, INGESTED))
    report("decoding every trial", INGESTED)
    finals = [final_betas(run, one) for run, one in zip(runs, ingested, strict=True)]
    trials = [run_trials(run, betas, index_of) for run, betas in zip(runs, finals, strict=True)]
    z_KV, shown_K = (np.concatenate([getattr(run, name) for run in trials]) for name in ("z_KV", "shown_K"))
    rng = np.random.default_rng(0)
    shuffled_MV = rng.permuted(np.tile(z_KV, (_SHUFFLES, 1)), axis=1)[:_MAX_NULL]
    scores_KN, null_MN = (_scores(model, voxels, released.pool) for voxels in (z_KV, shuffled_MV))
    right_KN = shown_K[:, None] == np.arange(len(released.pool))
    as_released = LeftOutScores(index_of, partial(_scores, model, pool=released.pool))
    scored = score_left_out(runs, ingested, [as_released] * len(runs))
    bundle = Bundle(
        subject=subject,
        created=created.astimezone(UTC).isoformat(timespec="seconds"),
        options=options,
        space=space,
        statistics=statistics_of(finals),
        calibration=fit_stages(fit_temperature(scores_KN, right_KN, null_MN), by_stage(scored), null_MN),
        pool=released.pool,
        decoder=MindEye2Weights(path),
        index=released.index,
        baseline=baseline,
        labels=labels,
        accuracy=top_k(scores_KN, right_KN, 1),
    )
    record = record_of(
        bundle,
        runs,
        ingested,
        trials,
        scored,
        null_MN,
        held_out="held out only if the weights never saw these runs",
        decoders=[sha256_of_file(path)] * len(runs),
    )
    unseen = [LeftOut([run.recorded.run for run in runs], bundle.decoder)]
    return completed(Calibrated(bundle, record), runs, unseen, index_of, reconstructor, in_pool_prior)


def _space(mask: Path, recorded: RecordedRun) -> SubjectSpace:
    """The middle volume of the run, and the voxels of the mask.

    Raises BadRequest (``calibration.mask``) if the mask is not on the runs' grid, empty, or not NIfTI.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    reference = middle_volume(recorded)
    try:
        image: Any = nibabel.load(mask)
    except (OSError, ImageFileError) as error:
        raise BadRequest(f"expected a NIfTI mask, got {mask.name}: {error}", code="calibration.mask") from None
    mask_XYZ = np.asarray(image.dataobj) > 0
    same = mask_XYZ.shape == reference.shape and np.allclose(image.affine, reference.affine, atol=1e-2)
    if not same or not mask_XYZ.any():
        raise BadRequest(
            f"expected a mask with voxels on the grid of the runs, {reference.shape} and their affine, got"
            f" {mask_XYZ.shape} with {int(mask_XYZ.sum())} voxels; resample it to the runs' grid",
            code="calibration.mask",
        )
    return SubjectSpace(reference, mask_XYZ)


def _one_layer(released: Released, n_voxels: int, scratch: Path) -> tuple[Path, FoldedMindEye2]:
    """A file with one subject's ridge layer, and the model in its inference form.

    Raises BadRequest (``calibration.weights``), ModelMismatch (``decoder.voxel_count``, ``pool.query_shape``).
    """
    from mindsight.decoders.mindeye2 import fold, load_mindeye2
    from mindsight.decoders.mindeye2.convert import is_converted, verified_weights
    from mindsight.weights.state_dict import write_state_dict

    path = verified_weights(released.weights) if is_converted(released.weights) else released.weights
    if path.suffix != ".safetensors":
        raise BadRequest(
            f"expected weights that were converted, got {path.name}; run mindsight convert mindeye2 {path.name} OUT",
            code="calibration.weights",
        )
    model = load_mindeye2(path)
    layout = model.layout
    if not 0 <= released.layer < len(layout.voxels) or layout.voxels[released.layer] != n_voxels:
        raise ModelMismatch(
            f"expected a ridge layer {released.layer} for the {n_voxels} voxels of the mask, got layers for"
            f" {list(layout.voxels)}",
            code="decoder.voxel_count",
        )
    if layout.tokens * layout.dim != released.pool.flat_ND.shape[1]:
        raise ModelMismatch(
            f"expected a pool of {layout.tokens} tokens of {layout.dim}, as the weights give, got"
            f" {released.pool.token_shape}; build it with the encoder that the weights were trained towards",
            code="pool.query_shape",
        )
    if len(layout.voxels) > 1:
        own = f"ridge.linears.{released.layer}."
        state = {
            key.replace(own, "ridge.linears.0."): tensor.contiguous()
            for key, tensor in model.state_dict().items()
            if not key.startswith("ridge.") or key.startswith(own)
        }
        path = scratch / "decoder.safetensors"
        write_state_dict(path, state)
    return path, fold(model, released.layer)


def _scores(model: FoldedMindEye2, voxels_KV: NDArray[np.float32], pool: CandidatePool) -> NDArray[np.float32]:
    """(K, N) cosines, computed in batches so that few tokens are in memory."""
    import torch

    batches = [torch.from_numpy(voxels_KV[i : i + _BATCH]) for i in range(0, len(voxels_KV), _BATCH)]
    return np.concatenate([cosine_scores(model.tokens(b, lowlevel=False).retrieval.numpy(), pool) for b in batches])
