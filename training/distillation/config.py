"""What a distillation is given: a TOML file.

    teacher = "unclip"   # folder that mindsight convert unclip wrote
    images = "images"    # of the training: a folder or an HDF5 file
    pool = "pool"        # their tokens: mindsight pool build images pool --weights unclip/tower.safetensors
    out = "student"      # folder to make, or to continue
    steps = 2000
    batch = 12
    learning_rate = 1e-4

Relative paths are those beside the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.course.config import read_toml


class Config(BaseModel):
    """One distillation.

    teacher : folder of an unCLIP with a manifest
    pool, images : the candidate pool that holds the images' tokens; a folder or an HDF5 file
    out : folder of the run: checkpoints, ``metrics.jsonl``, and in the end ``generator``, the student
    weights : which are trained
    rank : of the low-rank changes
    steps : of the optimiser
    batch : images of one step, of all processes together
    micro_batch : images that one process has on its device at once; None: its whole share of the batch. It changes
        memory, and the result by rounding only
    learning_rate : peak of a schedule that warms up and ends near zero
    guidance : scale that the student learns to do without; 5 is the reference's
    ema : decay of the average of weights, by step
    precision : in which networks compute; trained weights and their average are float32
    held_out : images at the end of the pool that the student is measured on, and never trained on
    checkpoint_every : steps between checkpoints
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    teacher: Path
    pool: Path
    images: Path
    out: Path
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0.0, le=1.0)
    weights: Literal["low-rank", "all"] = "low-rank"
    rank: int = Field(64, gt=0)
    micro_batch: int | None = Field(None, gt=0)
    guidance: float = Field(5.0, ge=1.0)
    ema: float = Field(0.95, ge=0.0, lt=1.0)
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    held_out: int = Field(200, ge=2)
    seed: int = Field(0, ge=0)
    checkpoint_every: int = Field(200, gt=0)

    @property
    def curve(self) -> dict[str, Any]:
        """What the course of the training depends on, beside teacher and data."""
        free = {"teacher", "pool", "images", "out", "micro_batch", "checkpoint_every"}
        return self.model_dump(mode="json", exclude=free)


def read_config(path: Path) -> Config:
    """Raises BadRequest (``training.config``), in one line, for the first thing that is wrong."""
    config = read_toml(path, Config)
    beside = {name: path.parent / getattr(config, name) for name in ("teacher", "pool", "images", "out")}
    return config.model_copy(update=beside)
