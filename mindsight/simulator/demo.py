"""The demo's participant and pool: the bundle that ships is fitted to the one and holds the other.

Knows nothing of models: how an image becomes tokens is handed in.
"""

from __future__ import annotations

from mindsight.simulator.experiment import Design
from mindsight.simulator.participant import Participant
from mindsight.simulator.session import Embed, SimulatedSession, make_participant

PARTICIPANT = 7
POOL_SEED, N_POOL = 1, 100


def demo_participant(embed: Embed, image_px: int) -> Participant:
    """The participant to whom the shipped bundle belongs."""
    return make_participant(embed, PARTICIPANT, image_px)


def demo_visit(
    embed: Embed, image_px: int, *, seed: int, n_runs: int, design: Design | None = None
) -> SimulatedSession:
    """A visit in which the participant sees images of the shipped bundle's pool.

    seed : of the order of the images, the noise and the movement
    design : of each run; None for the usual one
    """
    participant = demo_participant(embed, image_px)
    return SimulatedSession(
        embed,
        participant,
        image_px=image_px,
        pool_seed=POOL_SEED,
        n_pool=N_POOL,
        seed=seed,
        n_runs=n_runs,
        design=design,
    )
