"""From one trial's beta to a ranking of candidates, and from its features to a reconstruction.

Knows nothing of sessions, queues, stages or the wall clock; the same beta gives the same result. Torch is imported only
where a decoder or a generator needs it.

Letters: V voxels, D numbers of an embedding, R repeats, B = 1 trial, N tokens, C channels of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mindsight.decoders.base import average
from mindsight.errors import BadRequest, MindsightError, ModelMismatch
from mindsight.features import LOWLEVEL, Array, Features, FeatureSpace, match
from mindsight.generators.base import Generator, SampleOptions
from mindsight.posterior.hypotheses import weigh
from mindsight.retrieval import Choice, Ranking, choose_between, rank
from mindsight.stages import Stage, Version
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.device import HOST, Placement, on_host

if TYPE_CHECKING:
    from mindsight.retrieval.on_card import PoolOnCard

SAMPLING_BYTES = 3 << 30  # of a card, kept free for a reconstruction's intermediate results


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """One candidate of a retrieval. ``image`` is its file in the pool, None if there is none."""

    id: str
    label: str | None
    image: Path | None
    score: float
    probability: float


@dataclass(frozen=True, eq=False)
class Retrieval:
    """The result of one beta.

    candidates : best first
    confidence : calibrated probability that the first is right
    null_confidence : mean confidence of shuffled betas
    margin : score of the first minus that of the second
    null_share : share of shuffled betas whose best score is at least this one's; None if the bundle keeps none
    chance : one over the pool's size
    pairs : which candidate of each requested pair is nearer
    condition : the features that a reconstruction is made of, (1, ...) each; empty if the decoder gives none
    timings_ms : of ``decode`` and ``retrieve``
    """

    candidates: tuple[RankedCandidate, ...]
    confidence: float
    null_confidence: float
    margin: float
    null_share: float | None
    chance: float
    pairs: tuple[Choice, ...]
    condition: Features
    timings_ms: dict[str, float]


@dataclass(frozen=True, eq=False)
class Reconstructed:
    """One reconstruction, or its preview.

    pixels : (H, W, 3) uint8
    features : that it was generated from, (1, ...) each, named as the generator names them
    from_ranking : share of the tokens that are the candidates' own, 0 to 1; None where the bundle does not use them
    steps : network evaluations that made it, of the decoder's prior and of the generator
    timings_ms : of ``generate``, or of ``preview``
    lowlevel : (H, W, 3) uint8 the image that its low-level features give, if they are decoded
    """

    pixels: NDArray[np.uint8]
    features: Mapping[str, NDArray[np.float32]]
    steps: int
    timings_ms: dict[str, float]
    version: Version = "full"
    lowlevel: NDArray[np.uint8] | None = None
    from_ranking: float | None = None


def z_scored(
    beta_V: NDArray[np.float32], mean_V: NDArray[np.float32], std_V: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(..., V) betas in standard deviations from the mean; 0 where the standard deviation is 0."""
    z_V = np.zeros_like(beta_V)
    np.divide(beta_V - mean_V, std_V, out=z_V, where=std_V > 0.0)
    return z_V


class TrialDecoder:
    """Decodes one subject's betas with the parts of the bundle.

    clock : seconds, for the timings only
    generator : makes images of features; None if no reconstruction is needed
    placement : where its networks and, where they fit, its candidates are; the generator has its own
    n_candidates : length of the ranking that is returned
    lowlevel : whether reconstructions come with their low-level image although their sampler does not start from it,
        where the decoder has a head for it

    With a generator that was made for another encoder, betas are ranked and nothing is reconstructed; ``mismatch`` then
    gives the reason. Candidates that do not fit on the card are searched on the host, for the reason in
    ``off_card``. ``origin`` is subtracted from both sides of a cosine; None subtracts nothing.

    Raises ModelMismatch if the decoder's weights are not those of its kind, or for other voxels
    (``decoder.voxel_count``).
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        clock: Callable[[], float],
        generator: Generator | None = None,
        placement: Placement = HOST,
        n_candidates: int = 10,
        lowlevel: bool = False,
    ) -> None:
        self.bundle = bundle
        self._clock, self._placement = clock, placement
        self._generator = generator
        self._n_candidates = n_candidates
        needed, self.mismatch = _needed(generator, bundle.sampling.generator)
        lowlevel = lowlevel or LOWLEVEL.name in needed
        self._decoder = bundle.decoder.decoder(bundle.pool.space, placement, lowlevel=lowlevel)
        if self._decoder.n_voxels != bundle.space.n_voxels:
            raise ModelMismatch(
                f"expected weights for the {bundle.space.n_voxels} voxels of the bundle, got {self._decoder.n_voxels}:"
                " calibrate again with this mask",
                code="decoder.voxel_count",
            )
        self.origin = self._decoder.origin if bundle.calibration.centred else None
        self._condition = self._decoder.condition
        self._names: dict[str, str] = {}
        if generator is not None and self._condition and self.mismatch is None:
            try:
                self._names = match(self._decoder.refined, needed)
                if LOWLEVEL.name in self._decoder.refined:
                    self._names[LOWLEVEL.name] = LOWLEVEL.name
            except ModelMismatch as error:
                self.mismatch = str(error)
        if self.mismatch is not None:
            self._condition = ()
        self.off_card: str | None = None
        self._pool_on_card = None if placement == HOST else self._put_pool(placement)

    @property
    def draws(self) -> bool:
        """Whether betas can be reconstructed."""
        return self._generator is not None and bool(self._condition)

    def retrieve(
        self,
        beta_V: ArrayLike,
        mean_V: ArrayLike,
        std_V: ArrayLike,
        pairs: Sequence[tuple[str, str]] = (),
        *,
        stage: Stage | None = None,
        n_run: int = 0,
        trial: int | None = None,
    ) -> Retrieval:
        """Rank the pool for one beta, or for the betas of R trials that showed the same image.

        beta_V : (V,) response to the trial, as the GLM estimated it; or (R, V)
        mean_V, std_V : of the same shape, what it is z-scored by; a voxel with a standard deviation of 0 is ignored
        pairs : ids of look-alike candidates, to decide between
        stage, n_run, trial : of the beta, for the confidence, see ``Calibration.at``; no stage: that of all together

        Repeats are averaged as MindEye2's reference averages them: each is decoded, and the mean of their features is
        compared and reconstructed. For a linear decoder and for MindEye2's backbone, which is affine, that equals
        decoding the mean of the z-scored betas; for the retrieval head, which is not affine, it does not.

        Raises ModelMismatch: ``decoder.voxel_count`` for betas of another mask, ``pool.unknown_candidate``.
        """
        start = self._clock()
        features_R = self._decoder(self._z_scored(beta_V, mean_V, std_V))
        query = features_R[self._decoder.query].mean(axis=0)
        condition = average(features_R, self._condition)
        decoded = self._clock()
        pool = self.bundle.pool
        ranking = self._rank(query, pairs)
        calibration = self.bundle.calibration.at(stage, n_run, trial)
        sure = calibration.confidence(ranking)
        candidates = tuple(
            RankedCandidate(
                id=pool.ids[i],
                label=pool.labels[i] if pool.labels else None,
                image=pool.images[i] if pool.images else None,
                score=float(ranking.scores_N[i]),
                probability=float(sure.probabilities_N[i]),
            )
            for i in ranking.indices_K
        )
        choices = choose_between(ranking, pool, calibration, pairs)
        end = self._clock()
        return Retrieval(
            candidates,
            confidence=sure.probability,
            null_confidence=calibration.null_confidence,
            margin=sure.margin,
            null_share=sure.null_share,
            chance=1.0 / len(pool),
            pairs=choices,
            condition=condition,
            timings_ms={"decode": 1e3 * (decoded - start), "retrieve": 1e3 * (end - decoded)},
        )

    def _put_pool(self, placement: Placement) -> PoolOnCard | None:
        from mindsight.retrieval.on_card import PoolOnCard, lack_of_room

        self.off_card = lack_of_room(self.bundle.pool, placement.free_bytes(), SAMPLING_BYTES)
        if self.off_card is not None:
            return None
        try:
            with placement.memory_reported():
                return PoolOnCard.put(self.bundle.pool, self.origin, placement)
        except MindsightError as error:  # another program took the memory meanwhile
            self.off_card = str(error)
            return None

    def _rank(self, query: Array, pairs: Sequence[tuple[str, str]]) -> Ranking:
        """Ranks the whole pool: on the card, or on the host where it is not on one or the card's memory is used up.

        There through its index, where there is one and no origin, which an index does not know.
        """
        if self._pool_on_card is not None and (found := self._pool_on_card.rank(query, self._n_candidates)):
            return found
        pool, index, query_D = self.bundle.pool, self.bundle.index, on_host(query)
        if index is None or self.origin is not None:
            return rank(query_D, pool, self._n_candidates, self.origin)
        return index.rank(query_D, self._n_candidates, also={pool.index_of(name) for pair in pairs for name in pair})

    def embed(self, beta_V: ArrayLike, mean_V: ArrayLike, std_V: ArrayLike) -> NDArray[np.float32]:
        """The query of the pool: the mean over the repeats. Arguments and errors are those of ``retrieve``."""
        query_R = self._decoder(self._z_scored(beta_V, mean_V, std_V))[self._decoder.query]
        return on_host(query_R.mean(axis=0))

    def reconstruct(self, retrieval: Retrieval, seed: int, stage: Stage = "final") -> Reconstructed:
        """The reconstruction of a retrieval, as the bundle samples it; the same seed gives the same image.

        stage : of the beta, whose decoding errors differ

        Raises ModelMismatch (``generator.missing``) without a generator for the decoder's features.
        """
        start, generator = self._clock(), self._generator_for(retrieval)
        features, from_ranking, evaluations = self._refined(retrieval, seed, stage)
        options = self.bundle.sampling.generator
        pixels = generator(features, seed, options)[0]
        timings_ms = {"generate": 1e3 * (self._clock() - start)}
        steps = evaluations + generator.evaluations(options)
        return Reconstructed(pixels, _on_host(features), steps, timings_ms, from_ranking=from_ranking)

    def versions(
        self, retrieval: Retrieval, seed: int, stage: Stage = "final", *, sparing: bool = False
    ) -> Iterator[Reconstructed]:
        """A preview of the reconstruction, unless its sampler has one step only, and then the reconstruction, each once
        it is made.

        stage : see ``reconstruct``
        sparing : see ``Generator.versions``

        Raises as ``reconstruct``.
        """
        start, generator = self._clock(), self._generator_for(retrieval)
        features, from_ranking, evaluations = self._refined(retrieval, seed, stage)
        for drawn in generator.versions(features, seed, self.bundle.sampling.generator, sparing=sparing):
            timings_ms = {"preview" if drawn.is_preview else "generate": 1e3 * (self._clock() - start)}
            steps = evaluations + drawn.evaluations
            version: Version = "preview" if drawn.is_preview else "full"
            lowlevel = None if drawn.lowlevel is None else drawn.lowlevel[0]
            yield Reconstructed(drawn.images[0], _on_host(features), steps, timings_ms, version, lowlevel, from_ranking)

    def _generator_for(self, retrieval: Retrieval) -> Generator:
        if self._generator is None or not retrieval.condition:
            reason = self.mismatch or "this bundle gives candidates only"
            raise ModelMismatch(
                f"expected a generator and a decoder that predicts its image tokens: {reason}",
                code="generator.missing",
            )
        return self._generator

    def _refined(self, retrieval: Retrieval, seed: int, stage: Stage) -> tuple[dict[str, Array], float | None, int]:
        """What the generator takes, as it names it; the candidates' share of it; the prior's evaluations."""
        refined = self._decoder.refine(retrieval.condition, seed, self.bundle.sampling.prior)
        guided, from_ranking = self._guided(refined.features, retrieval, stage)
        return {name: guided[own] for name, own in self._names.items()}, from_ranking, refined.steps

    def _guided(self, refined: Features, retrieval: Retrieval, stage: Stage) -> tuple[Features, float | None]:
        """Those of the decoder's features that are in the pool's space as the mean over both hypotheses, see
        ``posterior.hypotheses``; and the share of the candidates in it.
        """
        pool, errors, prior = self.bundle.pool, self.bundle.errors, self.bundle.sampling.in_pool_prior
        if errors is None or prior is None or stage not in errors.stages:
            return refined, None
        decoded_1X = on_host(retrieval.condition[self._condition[0]])
        own_KND = pool.embeddings[[pool.index_of(candidate.id) for candidate in retrieval.candidates]]
        found = weigh(errors, stage, decoded_1X[0], own_KND, len(pool), prior)
        mean_ND = np.tensordot(found.weights_K, own_KND.astype(np.float32), axes=1)
        mean = self._placement.feature(self._placement.tensor(mean_ND))
        mixed = {
            name: feature + found.in_pool * (mean - feature)
            for name, feature in refined.items()
            if self._decoder.refined[name].matches(pool.space)
        }
        return {**refined, **mixed}, found.in_pool if mixed else None

    def expect(self, seed: int) -> None:
        """Prepare the reconstruction of a trial that is still to come and will have this seed."""
        if self._condition:
            self._decoder.expect(seed, self.bundle.sampling.prior)

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


def _on_host(features: Mapping[str, Array]) -> dict[str, NDArray[np.float32]]:
    return {name: on_host(feature) for name, feature in features.items()}


def _needed(generator: Generator | None, options: SampleOptions) -> tuple[Mapping[str, FeatureSpace], str | None]:
    """The features that a generator needs, or why it cannot sample in this way."""
    if generator is None:
        return {}, None
    try:
        return generator.needs(options), None
    except (ModelMismatch, BadRequest) as error:
        return {}, str(error)
