"""What a pretraining is given: a TOML file.

    out = "shared"          # folder to make, or to continue
    steps = 100000
    batch = 42              # trials of a step, of all processes together
    learning_rate = 3e-4
    pool = "pool"           # tokens of the images: mindsight pool build IMAGES pool --weights unclip/tower.safetensors
    images = "IMAGES"       # a folder or an HDF5 file

    [model]
    hidden = 4096

    [[data]]
    kind = "released"
    folder = "mindeyev2"
    subjects = [2, 3, 4, 5, 6, 7, 8]

Relative paths are those beside the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.course.config import read_toml, refused


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SimulatedData(_Table):
    """A cohort that does not exist; see ``datasets.cohort.CohortPlan``."""

    kind: Literal["simulated"]
    participants: int = Field(8, gt=0)
    first: int = Field(1, gt=0)
    runs: int = Field(24, gt=0)
    voxels: int = Field(1500, gt=1)
    scenes: int = Field(4000, gt=1)
    seed: int = Field(0, ge=0)


class ArchiveData(_Table):
    """Session archives that Mindsight wrote; see ``datasets.archives``."""

    kind: Literal["archive"]
    folders: tuple[Path, ...] = Field(min_length=1)


class ReleasedData(_Table):
    """The released MindEye2 files; see ``datasets.released``."""

    kind: Literal["released"]
    folder: Path
    subjects: tuple[int, ...] = Field(min_length=1)
    sessions: int | None = Field(None, gt=0)


class BidsData(_Table):
    """A BIDS derivative of single-trial betas; see ``datasets.bids.BidsQuery``."""

    kind: Literal["bids"]
    folder: Path
    subjects: tuple[str, ...] | None = None
    session: str | None = None
    task: str | None = None
    mask: Path | None = None
    events: Path | None = None


Source = Annotated[SimulatedData | ArchiveData | ReleasedData | BidsData, Field(discriminator="kind")]


class PriorTable(_Table):
    """The diffusion prior's transformer; the defaults are the published ones."""

    depth: int = Field(6, gt=0)
    heads: int = Field(32, gt=0)
    dim_head: int = Field(52, gt=0)
    inner: int = Field(6656, gt=0)


class ModelTable(_Table):
    """
    hidden : width of the latent that subjects share
    n_blocks : mixer blocks, of which only a constant has any effect
    prior : None (``prior = false``) trains retrieval alone
    """

    hidden: int = Field(4096, gt=0)
    n_blocks: int = Field(4, gt=0)
    prior: PriorTable | Literal[False] = PriorTable()


class SplitTable(_Table):
    """Shares of the images that are held out; where a source has a test set of its own, that is the test part."""

    validation: float = Field(0.05, gt=0.0, lt=0.5)
    test: float = Field(0.05, gt=0.0, lt=0.5)
    seed: int = Field(0, ge=0)


class Config(_Table):
    """One pretraining, or one fine-tuning.

    out : folder of the run: split, checkpoints, metrics, and in the end ``mindeye2``, the trained model
    data : sources of trials
    pool, images : tokens of the images, and the images; both may be left out where all data are simulated
    lowlevel : HDF5 file of the low-level head's targets, see ``targets.Lowlevel``; None trains no such head
    start : weights to begin with, of any form that ``load_mindeye2`` reads; ridge layers begin at random
    frozen : beginnings of the names of parameters that are not trained
    steps : of the optimiser
    batch : trials of one step, of all processes together
    part : trials that are on a device at once and that the contrastive loss compares with each other, from every
        subject the same number; None: the whole batch. It changes the result
    learning_rate : peak of one cycle; warm_up : share of the steps until the peak
    mixed : share of the steps in which betas are mixed and the contrastive loss is BiMixCo; SoftCLIP after it
    precision : in which networks compute; losses are computed in float32
    memory : ``half`` keeps large weights in two halves of 16 bits, and the optimiser's averages in 8 bits
    evaluate_every, checkpoint_every : steps between them
    """

    out: Path
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0.0, le=1.0)
    data: tuple[Source, ...] = Field(min_length=1)
    pool: Path | None = None
    images: Path | None = None
    lowlevel: Path | None = None
    start: Path | None = None
    frozen: tuple[str, ...] = ()
    part: int | None = Field(None, gt=0)
    warm_up: float = Field(0.02, ge=0.0, lt=1.0)
    mixed: float = Field(0.33, ge=0.0, le=1.0)
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    memory: Literal["whole", "half"] = "whole"
    seed: int = Field(0, ge=0)
    evaluate_every: int = Field(500, gt=0)
    checkpoint_every: int = Field(500, gt=0)
    model: ModelTable = ModelTable()
    split: SplitTable = SplitTable()

    @property
    def curve(self) -> dict[str, Any]:
        """What the course of the training depends on, beside weights and data."""
        free = {"out", "data", "pool", "images", "lowlevel", "start", "split", "evaluate_every", "checkpoint_every"}
        return self.model_dump(mode="json", exclude=free)


def read_config(path: Path) -> Config:
    """Raises BadRequest (``training.config``), in one line, for the first thing that is wrong."""
    config = read_toml(path, Config)
    simulated = all(source.kind == "simulated" for source in config.data)
    if config.memory == "half" and config.precision != "bfloat16":
        raise refused(path, f"memory = 'half' with precision = {config.precision!r}, which it needs as bfloat16")
    if config.pool is None and not simulated:
        raise refused(path, "none for pool, which only simulated data can do without")
    beside = {
        name: path.parent / given
        for name in ("out", "pool", "images", "lowlevel", "start")
        if (given := getattr(config, name)) is not None
    }
    data = tuple(_beside(path.parent, source) for source in config.data)
    return config.model_copy(update=beside | {"data": data})


def _beside(parent: Path, source: Any) -> Any:
    """The source with paths as they are from here."""
    paths = {name: parent / path for name, path in source if isinstance(path, Path)}
    if isinstance(source, ArchiveData):
        paths["folders"] = tuple(parent / folder for folder in source.folders)  # type: ignore[assignment]
    return source.model_copy(update=paths)
