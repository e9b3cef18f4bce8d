"""A simulated cohort: participants with voxels of their own, who look at scenes while a scanner measures them.

Betas come from the streaming GLM of a session, of percent signal after perfect motion correction (no volumes are
made). Knows nothing of decoders: how an image becomes tokens is an argument. Letters: K trials, M images, N tokens, D
channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.simulator.ceiling import final_betas, simulate_series
from mindsight.simulator.experiment import Design, plan_runs
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import Noise
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.simulator.session import POPULATION_SEED, POPULATION_SIZE, Embed
from training.datasets.images import ArrayImages
from training.datasets.trials import ArrayBetas, Dataset, SubjectTrials


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortPlan:
    """
    participants : their number
    first : number of the first participant; other numbers are other people
    runs : of each participant, 30 trials each by the default design
    runs_per_session : 12 in the Natural Scenes Dataset
    voxels : of the first participant; each further one has 5 % fewer, as people differ
    scenes : different scenes in all, of which every participant sees their own
    seed : of scenes, order and noise
    """

    participants: int = 8
    first: int = 1
    runs: int = 24
    runs_per_session: int = 12
    voxels: int = 1500
    scenes: int = 4000
    seed: int = 0
    image_px: int = 64


@dataclass(frozen=True, eq=False)
class Cohort:
    """The trials, the scenes that were shown, and their tokens.

    tokens_MND : of ``images.ids``, what the voxels respond to
    responses : subject -> (M, V) noise-free responses in percent signal change
    """

    dataset: Dataset
    images: ArrayImages
    tokens_MND: NDArray[np.float32]
    responses: dict[str, NDArray[np.float32]]


def simulated_cohort(
    plan: CohortPlan, embed: Embed, design: Design | None = None, noise: Noise | None = None
) -> Cohort:
    """embed : (M, H, W, 3) uint8 images to the (M, 16, D) tokens to which voxels respond"""
    scenes = random_scenes(np.random.default_rng([plan.seed, 31]), plan.scenes)
    images_MHW3 = render_batch(scenes, plan.image_px)
    images = ArrayImages(tuple(f"scene-{i:05d}" for i in range(plan.scenes)), images_MHW3)
    population_NTD = _population(embed, plan.image_px)
    tokens_MND = np.asarray(embed(images_MHW3), np.float32)
    decks = np.array_split(np.random.default_rng([plan.seed, 32]).permutation(plan.scenes), plan.participants)
    subjects, responses = [], {}
    for i, deck in enumerate(decks):
        voxels = round(plan.voxels * 0.95**i)
        person = Participant(plan.first + i, population_NTD, voxels)
        own_MV = person.responses(tokens_MND)
        trials = _scanned(plan, person, own_MV, deck.tolist(), images.ids, design or Design(), noise or Noise())
        subjects.append(trials)
        responses[trials.subject] = own_MV.astype(np.float32)
    return Cohort(Dataset(tuple(subjects)), images, tokens_MND, responses)


@lru_cache(maxsize=2)
def _population(embed: Embed, image_px: int) -> NDArray[Any]:
    """Tokens of the scenes over which responses are normalised."""
    scenes = random_scenes(np.random.default_rng([POPULATION_SEED, 7]), POPULATION_SIZE)
    return np.asarray(embed(render_batch(scenes, image_px)))


def _scanned(
    plan: CohortPlan,
    person: Participant,
    responses_MV: NDArray[Any],
    deck: list[int],
    ids: Sequence[str],
    design: Design,
    noise: Noise,
) -> SubjectTrials:
    rng = np.random.default_rng([plan.seed, person.seed, 33])
    runs = plan_runs(design, plan.runs, deck, seed=1000 * plan.seed + person.seed)
    betas = [final_betas(run, simulate_series(run, responses_MV, noise, rng)) for run in runs]
    at = [(run.run, shown.candidate) for run in runs for shown in run.shown]
    return SubjectTrials(
        subject=f"simulated-{person.seed:03d}",
        betas=ArrayBetas(np.concatenate(betas).astype(np.float32)),
        images=tuple(ids[candidate] for _, candidate in at),
        sessions=tuple(f"{(run - 1) // plan.runs_per_session + 1:02d}" for run, _ in at),
        runs=tuple(run for run, _ in at),
        space=f"simulated-{person.seed}-{person.n_voxels}",
    )
