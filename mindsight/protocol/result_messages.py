"""Messages of what was decoded: ranked candidates, reconstructions and how well they fit, captions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from mindsight.protocol.base import Digest, Frozen, SessionMessage, StageLatency
from mindsight.stages import Stage, Version

NO_FITS = "fit.encoder"
"""Code of the warning in a session whose reconstructions have no fit."""


class Candidate(Frozen):
    id: str
    label: str | None = None
    image: Digest | None = None
    score: float
    probability: float | None = None


class PairChoice(Frozen):
    """The nearer of two look-alike candidates: a two-alternative forced choice."""

    first: str
    second: str
    chosen: str = Field(description="one of the two")
    margin: float = Field(ge=0, description="score of the chosen candidate minus that of the other")
    probability: float = Field(
        ge=0.5, le=1, description="calibrated, of the chosen candidate if one of the two was shown"
    )


class WarmingUp(Frozen):
    """The z-scoring statistics rest on ``n`` betas of the ``of`` that their policy needs."""

    n: int = Field(ge=0)
    of: int = Field(ge=1)


class Result(SessionMessage):
    """The candidates closest to one trial's beta, at one stage."""

    type: Literal["result"] = "result"
    run: int
    trial: int
    stage: Stage
    candidates: tuple[Candidate, ...] = Field(description="best first")
    confidence: float = Field(ge=0, le=1, description="calibrated probability that the first candidate is correct")
    null_confidence: float = Field(ge=0, le=1, description="the same for betas without a stimulus: the level of chance")
    margin: float | None = Field(default=None, description="score of the first candidate minus that of the second")
    null_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of shuffled betas that score at least as high: a rank under the null",
    )
    chance: float = Field(ge=0, le=1)
    pairs: tuple[PairChoice, ...] = Field(default=(), description="choices for the session's pairs, in their order")
    pool_size: int
    flagged: bool = False
    model: Digest
    pool: Digest
    normalised_by: str = Field(description="the z-scoring policy, e.g. 'running' or 'bundle'")
    n_statistics: int = Field(default=0, ge=0, description="number of betas behind the z-scoring statistics")
    n_run: int = Field(default=0, ge=0, description="betas of the run so far, which the confidence allows for")
    warming_up: WarmingUp | None = Field(default=None, description="until the z-scoring statistics are complete")
    n_repeats: int = Field(default=1, ge=1, description="number of trials of the same image that are averaged")
    to_be_drawn: bool | None = Field(
        default=None,
        description="whether its reconstruction follows, or the reason for none; None: an earlier release does not say",
    )
    latency_ms: StageLatency = StageLatency()


class Reconstruction(SessionMessage):
    """One version of the image that is reconstructed from one trial's beta, at one stage.

    Of the versions of one stage the latest counts: refined, full, preview. They may come in any order.
    """

    type: Literal["reconstruction"] = "reconstruction"
    run: int
    trial: int
    stage: Stage
    version: Version = Field(
        default="full", description="preview: as after the sampler's first steps; refined: made of the full one later"
    )
    image: Digest
    seed: int
    evaluations: int = Field(description="number of network evaluations of the sampler")
    generator: Digest
    from_ranking: float | None = Field(
        default=None, ge=0, le=1, description="share of its tokens that are the candidates' own; null: none can be"
    )
    brain_map: Digest | None = Field(default=None, description="image of the beta on the reference")
    latency_ms: StageLatency = StageLatency()

    @model_validator(mode="before")
    @classmethod
    def _without_the_confidence_of_its_result(cls, given: Any) -> Any:
        """Sessions recorded before ``ReconstructionFit`` repeat here the confidence of the result."""
        return {name: of for name, of in given.items() if name != "confidence"} if isinstance(given, dict) else given


class ReconstructionFit(SessionMessage):
    """How well a reconstruction fits the image tokens that it was made from. It is measured after the reconstruction
    is shown, which comes before it.
    """

    type: Literal["reconstruction.fit"] = "reconstruction.fit"
    run: int
    trial: int
    stage: Stage
    image: Digest = Field(description="of the reconstruction that was measured")
    token_cosine: float = Field(
        ge=-1,
        le=1,
        description="cosine between the tokens of the reconstruction, encoded again, and those that it was made from",
    )
    fit_percentile: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="percentile rank of the cosine among those that other trials' reconstructions have with the same"
        " tokens, at this stage in the calibration; None: not calibrated",
    )
    encoder: Digest = Field(description="sha256 of the encoder's weights")
    latency_ms: StageLatency = StageLatency()


class ReconstructionSkipped(SessionMessage):
    """A stage of a trial has no reconstruction and will have none; its result is there."""

    type: Literal["reconstruction.skipped"] = "reconstruction.skipped"
    run: int
    trial: int
    stage: Stage
    text: str = Field(description="the reason")


class Captioned(SessionMessage):
    """A sentence made from the same image tokens as the reconstruction, which comes before it."""

    type: Literal["caption"] = "caption"
    run: int
    trial: int
    stage: Stage
    text: str = Field(max_length=1000)
    model: Digest = Field(description="digest of the captioner's files")
