"""The sources that a configuration names, checked, split and normalised, before any time is spent.

Knows nothing of networks. Raises, of every kind of bad input, BadRequest or ModelMismatch with what is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight import assets
from mindsight.encoders.demo import DemoEncoder
from mindsight.encoders.sources import ImageSource
from mindsight.errors import BadRequest, Conflict
from mindsight.files.durable import write_durably
from mindsight.retrieval import CandidatePool
from mindsight.retrieval.from_files import open_images
from training.datasets.archives import read_archives
from training.datasets.bids import BidsQuery, read_bids
from training.datasets.cohort import CohortPlan, simulated_cohort
from training.datasets.duplicates import fingerprints
from training.datasets.images import PoolImages, joined_images
from training.datasets.normalise import normalised
from training.datasets.released import read_released
from training.datasets.split import split_images
from training.datasets.trials import Dataset, SubjectTrials
from training.pretraining.batches import Batches, Learner
from training.pretraining.config import ArchiveData, BidsData, Config, ReleasedData, SimulatedData, Source
from training.pretraining.held_out import HeldOut
from training.pretraining.targets import Lowlevel, Targets
from training.pretraining.train import Material

SPLIT = "split.json"
IMAGE_PX = 64  # side at which images are compared with each other


@dataclass(frozen=True, eq=False)
class Data:
    """Trials of all sources, subjects in the order of their names, with the images and their targets."""

    dataset: Dataset
    images: ImageSource
    targets: Targets


def open_data(config: Config) -> Data:
    """All that the configuration names, joined.

    Raises BadRequest (``training.config``) for simulated data beside recorded ones, and what reading a source raises.
    """
    lowlevel = None if config.lowlevel is None else Lowlevel.open(config.lowlevel)
    simulated = [source for source in config.data if isinstance(source, SimulatedData)]
    if len(simulated) == len(config.data):
        return _simulated(simulated, lowlevel)
    if simulated or config.pool is None:
        raise BadRequest(
            "expected simulated data alone, or recorded data alone with their pool: images of the two are of different"
            " encoders",
            code="training.config",
        )
    pool = CandidatePool.load(config.pool)
    images = PoolImages(pool) if config.images is None else open_images(config.images, IMAGE_PX)
    subjects = [subject for source in config.data for subject in _read(source, len(images.ids))]
    return Data(_sorted(subjects), images, Targets.of_pool(pool, lowlevel))


def _simulated(sources: Sequence[SimulatedData], lowlevel: Lowlevel | None) -> Data:
    encoder = _demo_encoder()
    plans = [CohortPlan(**source.model_dump(exclude={"kind"})) for source in sources]
    cohorts = [simulated_cohort(plan, encoder.encode) for plan in plans]
    images = joined_images([cohort.images for cohort in cohorts])
    tokens: dict[str, NDArray[np.float32]] = {}
    for cohort in cohorts:
        tokens |= zip(cohort.images.ids, cohort.tokens_MND, strict=True)
    targets = Targets(
        images.ids, np.stack([tokens[name] for name in images.ids]), encoder.space, encoder.digest, lowlevel
    )
    return Data(_sorted([subject for cohort in cohorts for subject in cohort.dataset.subjects]), images, targets)


@lru_cache(maxsize=1)
def _demo_encoder() -> DemoEncoder:
    return DemoEncoder.load(assets.ENCODER)


def _read(source: Source, n_images: int) -> tuple[SubjectTrials, ...]:
    match source:
        case ArchiveData():
            return read_archives(source.folders)
        case ReleasedData():
            return read_released(source.folder, source.subjects, source.sessions, n_images)
        case BidsData():
            return read_bids(BidsQuery(**source.model_dump(exclude={"kind"})))
        case SimulatedData():
            raise AssertionError("simulated data are made beside their images")


def _sorted(subjects: Sequence[SubjectTrials]) -> Dataset:
    """In the order of the ridge layers."""
    return Dataset(tuple(sorted(subjects, key=lambda subject: subject.subject)))


def make_split(config: Config, data: Data) -> dict[str, Any]:
    """Which images are where: what ``split.json`` holds. Every image is read.

    Raises BadRequest: ``dataset.images``, ``pictures.unreadable``, ``split.share``.
    """
    shares = config.split
    data.targets.require(data.dataset.images)
    prints = fingerprints(data.images, data.dataset.images)
    split = split_images(data.dataset, prints, validation=shares.validation, test=shares.test, seed=shares.seed)
    return split.to_json(data.dataset)


def make_material(config: Config, data: Data, split: Mapping[str, Any]) -> Material:
    """The batches and the held-out trials of a run.

    split : see ``make_split``

    Raises BadRequest: ``dataset.not_finite``, ``dataset.constant``, ``dataset.trials``, ``dataset.scale``,
    ``split.share``, ``training.config``.
    """
    parts = {
        part: {image for image, row in split["images"].items() if row["part"] == part}
        for part in ("training", "validation", "test")
    }
    learners, validation, test = [], [], []
    for subject in data.dataset.subjects:
        betas = normalised(subject, parts["training"])
        rows_K = subject.rows_of(parts["training"])
        learners.append(Learner(subject.subject, betas, rows_K, tuple(subject.images[row] for row in rows_K)))
        validation.append(_held_out(subject, HeldOut.of(subject.subject, betas, parts["validation"])))
        test.append(_held_out(subject, HeldOut.of(subject.subject, betas, parts["test"])))
    batches = Batches(learners, data.targets, config.part or config.batch, config.seed)
    return Material(batches, validation, test)


def _held_out(subject: SubjectTrials, held_out: HeldOut) -> HeldOut:
    if len(held_out.images) < 2:
        raise BadRequest(
            f"expected two held-out images or more that subject {subject.subject} saw, got {len(held_out.images)}: hold"
            " out a larger share, or leave the subject out",
            code="split.share",
        )
    return held_out


def keep_split(out: Path, manifest: dict[str, Any]) -> None:
    """Write ``split.json``; a run that continues must find the same one. Raises Conflict (``training.other_run``)."""
    path, held = out / SPLIT, json.dumps(manifest, indent=1).encode() + b"\n"
    if path.exists() and path.read_bytes() != held:
        raise Conflict(
            f"expected the trials and images that {SPLIT} lists, got others: restore the data, or name another folder"
            " to start from the beginning",
            code="training.other_run",
        )
    write_durably(path, held)


def read_split(out: Path) -> dict[str, Any]:
    """What ``keep_split`` wrote."""
    held: dict[str, Any] = json.loads((out / SPLIT).read_bytes())
    return held
