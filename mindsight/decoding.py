"""One trial's beta becomes a ranking of candidates, and the ranking's tokens a picture.

Knows nothing of sessions, queues, stages or the wall clock; the same beta gives the same answer. Torch is imported only
where a decoder or a generator needs it.

Letters: V voxels, D numbers of an embedding, B = 1 trial, N tokens of a picture, C channels of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.errors import ModelMismatch
from mindsight.retrieval import Choice, Ranking, choose_between, rank
from mindsight.subjects.bundle.folder import Bundle

# What the service draws a picture with; controls must go the same way as the answers that they stand beside.
PRIOR_STEPS, PRIOR_DRAWS, EVALUATIONS = 10, 8, 4


class PictureMaker(Protocol):
    """What is asked of a generator: ``mindsight.generators.unclip.Generator`` is one."""

    def generate(self, tokens_BND: NDArray[np.float32], seed: int, evaluations: int) -> NDArray[np.uint8]:
        """(B, H, W, 3) pictures of (B, N, C) tokens."""


class _Decoder(Protocol):
    """z-scored voxels to tokens, in two steps: what retrieval needs at once, what a picture needs later."""

    def decode(self, voxels_BV: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """The query (B, ...) and the condition of the picture (B, N, C), None where there can be no picture."""

    def picture_tokens(self, condition_BNC: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], int]:
        """(B, N, C) tokens for the generator, and the network evaluations they took."""


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """One candidate of a retrieval. ``image`` is its file in the pool, None where it has none."""

    id: str
    label: str | None
    image: Path | None
    score: float
    probability: float


@dataclass(frozen=True, eq=False)
class Retrieval:
    """What one beta says.

    candidates : best first
    confidence : calibrated probability that the first is right
    null_confidence : what betas of no picture reach in the mean
    margin : score of the first minus that of the second
    null_share : share of shuffled betas whose best score is at least this one's; None where the bundle keeps none
    chance : one over the pool's size
    pairs : which of each pair that was asked for is nearer
    condition : (N, C) what a picture is made from, None where the decoder gives no tokens
    timings_ms : of ``decode`` and ``retrieve``
    """

    candidates: tuple[RankedCandidate, ...]
    confidence: float
    null_confidence: float
    margin: float
    null_share: float | None
    chance: float
    pairs: tuple[Choice, ...]
    condition: NDArray[np.float32] | None
    timings_ms: dict[str, float]


@dataclass(frozen=True, eq=False)
class Picture:
    """pixels (H, W, 3) uint8; tokens (N, C) it was drawn from; the network evaluations that made it; ``timings_ms`` of
    ``generate``.
    """

    pixels: NDArray[np.uint8]
    tokens_NC: NDArray[np.float32]
    evaluations: int
    timings_ms: dict[str, float]


def z_scored(
    beta_V: NDArray[np.float32], mean_V: NDArray[np.float32], std_V: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(..., V) betas in standard deviations from the mean; 0 where the standard deviation is."""
    z_V = np.zeros_like(beta_V)
    np.divide(beta_V - mean_V, std_V, out=z_V, where=std_V > 0.0)
    return z_V


class TrialDecoder:
    """Decodes one subject's betas with what the bundle holds.

    clock : seconds, for the timings only
    generator : makes pictures of tokens; None where no picture is asked for
    n_candidates : how many of the ranking to return
    prior_steps, evaluations : how long the diffusion prior and the generator may take, see there
    prior_draws : how many samples of the prior are averaged for a picture; the reference takes one, the mean of several
        is closer to the tokens of what was seen

    Raises ModelMismatch where the bundle's weights are not what its kind says.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        clock: Callable[[], float],
        generator: PictureMaker | None = None,
        n_candidates: int = 10,
        prior_steps: int = 20,
        prior_draws: int = 1,
        evaluations: int = 4,
    ) -> None:
        self.bundle = bundle
        self._clock = clock
        self._generator = generator
        self._n_candidates = n_candidates
        self._evaluations = evaluations
        self._decoder: _Decoder = (
            _Linear(bundle.decoder)
            if isinstance(bundle.decoder, LinearDecoder)
            else _MindEye2(bundle.decoder, bundle.space.n_voxels, prior_steps, prior_draws)
        )
        self._origin = (
            bundle.decoder.origin if isinstance(bundle.decoder, LinearDecoder) and bundle.calibration.centred else None
        )

    def retrieve(
        self, beta_V: ArrayLike, mean_V: ArrayLike, std_V: ArrayLike, pairs: Sequence[tuple[str, str]] = ()
    ) -> Retrieval:
        """Rank the pool for one beta, or for the betas of R trials that showed the same picture.

        beta_V : (V,) response to the trial, as the GLM estimated it; or (R, V)
        mean_V, std_V : of the same shape, what it is z-scored by; a voxel whose standard deviation is 0 says nothing
        pairs : ids of candidates that look alike, to decide between

        Repeats are averaged as MindEye2's reference does it: each is decoded, and of what comes out the mean is taken
        before anything is compared or drawn. For a linear decoder and for MindEye2's backbone, which is affine, that is
        the mean of the z-scored betas; for the retrieval head, which is not, it is more than that.

        Raises ModelMismatch: ``decoder.voxel_count`` for betas of another mask, ``pool.unknown_candidate``.
        """
        start = self._clock()
        query_R, condition_R = self._decoder.decode(self._z_scored(beta_V, mean_V, std_V))
        query = query_R.mean(axis=0)
        condition = None if condition_R is None else condition_R.mean(axis=0)
        decoded = self._clock()
        pool = self.bundle.pool
        ranking = self._rank(query, pairs)
        sure = self.bundle.calibration.confidence(ranking)
        candidates = tuple(
            RankedCandidate(
                id=pool.ids[place],
                label=pool.labels[place] if pool.labels else None,
                image=pool.images[place] if pool.images else None,
                score=float(ranking.scores_N[place]),
                probability=float(sure.probabilities_N[place]),
            )
            for place in ranking.places_K
        )
        choices = choose_between(ranking, pool, self.bundle.calibration, pairs)
        end = self._clock()
        return Retrieval(
            candidates,
            confidence=sure.probability,
            null_confidence=self.bundle.calibration.null_confidence,
            margin=sure.margin,
            null_share=sure.null_share,
            chance=1.0 / len(pool),
            pairs=choices,
            condition=condition,
            timings_ms={"decode": 1e3 * (decoded - start), "retrieve": 1e3 * (end - decoded)},
        )

    def _rank(self, query_D: NDArray[np.float32], pairs: Sequence[tuple[str, str]]) -> Ranking:
        """Of the whole pool; by its index where there is one, which knows nothing of an origin."""
        pool, index = self.bundle.pool, self.bundle.index
        if index is None or self._origin is not None:
            return rank(query_D, pool, self._n_candidates, self._origin)
        return index.rank(query_D, self._n_candidates, also={pool.place(name) for pair in pairs for name in pair})

    def embed(self, beta_V: ArrayLike, mean_V: ArrayLike, std_V: ArrayLike) -> NDArray[np.float32]:
        """What the pool is searched with: the mean over the repeats. Arguments and errors are those of ``retrieve``."""
        query_R, _ = self._decoder.decode(self._z_scored(beta_V, mean_V, std_V))
        query: NDArray[np.float32] = query_R.mean(axis=0)
        return query

    def reconstruct(self, retrieval: Retrieval, seed: int) -> Picture:
        """The picture of a retrieval; the same seed gives the same picture.

        Raises ModelMismatch (``generator.missing``) without a generator or without tokens.
        """
        if self._generator is None or retrieval.condition is None:
            raise ModelMismatch(
                "expected a generator and a decoder that gives tokens: this bundle answers with candidates only",
                code="generator.missing",
            )
        start = self._clock()
        tokens_BNC, evaluations = self._decoder.picture_tokens(retrieval.condition[None], seed)
        pixels = self._generator.generate(tokens_BNC, seed, self._evaluations)[0]
        timings_ms = {"generate": 1e3 * (self._clock() - start)}
        return Picture(pixels, tokens_BNC[0], evaluations + self._evaluations, timings_ms)

    def _z_scored(self, beta_V: ArrayLike, mean_V: ArrayLike, std_V: ArrayLike) -> NDArray[np.float32]:
        beta, mean, std = (np.asarray(values, dtype=np.float32) for values in (beta_V, mean_V, std_V))
        n = self.bundle.space.n_voxels
        if not (beta.shape == mean.shape == std.shape and beta.shape[-1:] == (n,)):
            raise ModelMismatch(
                f"expected a beta and statistics of the {n} voxels of the bundle, got {beta.shape}, {mean.shape} and"
                f" {std.shape}",
                code="decoder.voxel_count",
            )
        return z_scored(beta, mean, std).reshape(-1, n)


class _Linear:
    """Ridge regression: where the pool's embeddings are tokens, its prediction is what a picture is made from."""

    def __init__(self, decoder: LinearDecoder) -> None:
        self._decoder = decoder

    def decode(self, voxels_BV: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        embedding = self._decoder.predict(voxels_BV)
        return embedding, embedding if embedding.ndim == 3 else None

    def picture_tokens(self, condition_BNC: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], int]:
        return condition_BNC, 0


class _MindEye2:
    """MindEye2 in its inference form; the prior, where there is one, draws the tokens of the picture."""

    def __init__(self, weights: Path, n_voxels: int, prior_steps: int, prior_draws: int) -> None:
        from mindsight.decoders.mindeye2 import Sampler, fold, load_mindeye2
        from mindsight.decoders.mindeye2.schedule import sampler_table

        model = load_mindeye2(weights)
        if model.layout.voxels[0] != n_voxels:
            raise ModelMismatch(
                f"expected weights for the {n_voxels} voxels of the bundle, got {model.layout.voxels[0]}",
                code="decoder.voxel_count",
            )
        self._model = fold(model)
        self._sampler = Sampler(model.prior, prior_steps) if model.prior is not None else None
        self._prior_draws = prior_draws
        self._prior_evaluations = len(sampler_table(prior_steps))

    def decode(self, voxels_BV: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        import torch

        tokens = self._model.tokens(torch.from_numpy(voxels_BV), lowlevel=False)
        return tokens.retrieval.numpy(), tokens.backbone.numpy()

    def picture_tokens(self, condition_BNC: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], int]:
        if self._sampler is None:
            return condition_BNC, 0
        import torch

        draws = torch.Generator().manual_seed(seed)
        condition = torch.from_numpy(condition_BNC).repeat_interleave(self._prior_draws, dim=0)
        tokens = self._sampler(condition, generator=draws)
        tokens_BNC = tokens.reshape(-1, self._prior_draws, *tokens.shape[1:]).mean(dim=1).numpy()
        return tokens_BNC, self._prior_evaluations
