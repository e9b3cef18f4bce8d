"""A simulated experiment: which image is shown when.

Knows nothing of images, brains or scanners: indices into a candidate pool, and onsets in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Shown:
    """One image on the screen. ``candidate`` is its index in the pool, ``trial`` its number in the run, from 1."""

    trial: int
    onset_s: float
    duration_s: float
    candidate: int


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run: what is shown, and how many volumes are acquired."""

    run: int
    shown: tuple[Shown, ...]
    tr_s: float
    n_volumes: int


@dataclass(frozen=True, slots=True)
class Design:
    """A rapid event-related run: each image 3 s on, 1 s off, with some blank slots to measure the baseline.

    trials_per_run : images shown per run
    blank_fraction : empty slots, as a fraction of the images
    repeats_per_run : how many of the run's images are second showings
    lead_in_s, tail_s : before the first slot, and after the last, for the response to return to baseline
    """

    trials_per_run: int = 30
    blank_fraction: float = 0.1
    repeats_per_run: int = 3
    on_s: float = 3.0
    off_s: float = 1.0
    tr_s: float = 1.5
    lead_in_s: float = 6.0
    tail_s: float = 15.0


def plan_runs(design: Design, n_runs: int, candidates: int | list[int], seed: int) -> list[RunPlan]:
    """``n_runs`` runs over a pool.

    candidates : the indices that may be shown, or their number. New images are drawn without replacement until all
        were shown, then from all of them again
    """
    rng = np.random.default_rng([seed, 2])
    pool = list(range(candidates)) if isinstance(candidates, int) else list(candidates)
    deck: list[int] = []
    runs = []
    for run in range(1, n_runs + 1):
        fresh: list[int] = []
        while len(fresh) < design.trials_per_run - design.repeats_per_run:
            if not deck:
                deck = [pool[i] for i in rng.permutation(len(pool))]
            fresh.append(deck.pop())
        again = [fresh[i] for i in rng.choice(len(fresh), size=design.repeats_per_run, replace=False)]
        order = list(rng.permutation(np.array(fresh + again)))
        n_slots = round(design.trials_per_run * (1.0 + design.blank_fraction))
        slots = np.sort(rng.choice(n_slots, size=design.trials_per_run, replace=False))
        step_s = design.on_s + design.off_s
        shown = tuple(
            Shown(trial, float(design.lead_in_s + slot * step_s), design.on_s, int(candidate))
            for trial, (slot, candidate) in enumerate(zip(slots, order, strict=True), start=1)
        )
        length_s = design.lead_in_s + n_slots * step_s + design.tail_s
        runs.append(RunPlan(run, shown, design.tr_s, int(np.ceil(length_s / design.tr_s))))
    return runs
