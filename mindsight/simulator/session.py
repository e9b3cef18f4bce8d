"""A whole simulated visit: a pool of scenes, a participant, an experiment, a scanner and a noise ceiling.

Knows nothing of models: the function from images to tokens is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy
from mindsight.simulator.ceiling import ceiling
from mindsight.simulator.experiment import Design, RunPlan, plan_runs
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import Noise, SimulatedScanner
from mindsight.simulator.scenes import Scene, random_scenes, render_batch
from mindsight.volume import Volume

Embed = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]
POPULATION_SEED = 0
POPULATION_SIZE = 512


def make_participant(embed: Embed, seed: int, image_px: int) -> Participant:
    """Participant ``seed``, whose responses are normalised over a fixed population of scenes."""
    population = random_scenes(np.random.default_rng([POPULATION_SEED, 7]), POPULATION_SIZE)
    return Participant(seed, embed(render_batch(population, image_px)))


class SimulatedSession:
    """One visit of one simulated participant.

    embed : (N, H, W, 3) uint8 images to the (N, 16, D) tokens to which voxels respond
    participant : see ``make_participant``
    pool_seed, n_pool : determine the scenes that may be shown
    seed : of this visit: order of the images, noise, movement
    """

    def __init__(
        self,
        embed: Embed,
        participant: Participant,
        *,
        image_px: int,
        pool_seed: int,
        n_pool: int,
        seed: int,
        n_runs: int,
        design: Design | None = None,
        noise: Noise | None = None,
    ) -> None:
        self.scenes: list[Scene] = random_scenes(np.random.default_rng([pool_seed, 8]), n_pool)
        self.images_NHW3 = render_batch(self.scenes, image_px)
        self.tokens_NTD = np.asarray(embed(self.images_NHW3))
        self.responses_NV = participant.responses(self.tokens_NTD)
        self.seed = seed
        self.plans: list[RunPlan] = plan_runs(Design() if design is None else design, n_runs, n_pool, seed)
        self.scanner = SimulatedScanner(participant, seed, noise)

    def volumes(self, plan: RunPlan) -> Iterator[Volume]:
        """The run's volumes, in order."""
        return self.scanner.run(plan, self.responses_NV)

    def ceiling(self) -> Accuracy:
        """The best top-1 over the pool that this visit's final betas allow: see ``simulator.ceiling``."""
        return ceiling(self.plans, self.responses_NV, self.scanner.noise, self.seed)
