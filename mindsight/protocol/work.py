"""The jobs of the inference worker: one beta to decode, with everything that depends on order already computed; and a
reconstruction to refine.

Knows nothing of queues. Betas, their statistics and images are files in the blob store.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mindsight.protocol.messages import Digest, Reconstruction, WarmingUp
from mindsight.stages import Stage


class Repeat(BaseModel):
    """The newest beta of another trial that showed the same image; ``statistics`` as in ``BetaWork``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: Digest
    statistics: Digest | None = None


class BetaWork(BaseModel):
    """One trial's beta at one stage.

    ``key`` names the job and, without the session, its result.
    """

    # jobs queued by an earlier release have fields that nothing reads
    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    session: str
    run: int = Field(ge=1)
    trial: int = Field(ge=1)
    stage: Stage
    beta: Digest = Field(description="(V,) float32 in the order of the bundle's mask")
    statistics: Digest | None = Field(
        default=None, description="(2, V) float32, mean and standard deviation for z-scoring; None: those of the bundle"
    )
    voxels: Digest | None = Field(
        default=None, description="(V,) uint8, 1 for the voxels that the bundle reads; None: it reads all of them"
    )
    normalised_by: str = Field(default="bundle", description="the z-scoring policy, e.g. 'running' or 'bundle'")
    n_statistics: int = Field(default=0, ge=0, description="number of betas behind the running statistics")
    n_run: int = Field(default=0, ge=0, description="betas of the run so far")
    warming_up: WarmingUp | None = Field(default=None, description="see ``Result``")
    repeats: tuple[Repeat, ...] = Field(default=(), description="other betas that the result averages")
    pairs: tuple[tuple[str, str], ...] = Field(default=(), description="pairs of look-alike candidates")
    flagged: bool = Field(default=False, description="the trial's response contains a censored volume")
    bundle: str | None = Field(default=None, description="name of the subject bundle that decodes the beta")
    logged_t: float = Field(description="when the beta was logged, seconds since the Unix epoch")

    @property
    def key(self) -> str:
        return f"{self.session}-{self.run}-{self.trial}-{self.stage}"


class RefinementWork(BaseModel):
    """A reconstruction to refine.

    ``key`` names the job.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    made: Reconstruction
    caption: str
    lowlevel: Digest | None = Field(default=None, description="the image that its low-level features give")
    logged_t: float = Field(description="when the beta was logged, seconds since the Unix epoch")

    @property
    def key(self) -> str:
        return f"{self.made.session}-{self.made.run}-{self.made.trial}-{self.made.stage}"


def parse_refinement(payload: bytes | str) -> RefinementWork:
    return RefinementWork.model_validate_json(payload)


def dump_refinement(work: RefinementWork) -> bytes:
    return work.model_dump_json(exclude_none=True).encode()


def parse_work(payload: bytes | str) -> BetaWork:
    return BetaWork.model_validate_json(payload)


def dump_work(work: BetaWork) -> bytes:
    return work.model_dump_json(exclude_none=True).encode()
