"""What a calibration needs: enough labelled trials that show different things, some of them more than once.

Light, so that the gateway can refuse what cannot succeed before any time is spent. Knows nothing of decoders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from mindsight.errors import BadRequest

MIN_TRIALS, MIN_RUNS = 12, 2
MIN_TUNED = 10  # images for gradient steps: two in each of five parts, of which two are left out


def check_labels(
    labels_of_runs: Sequence[Collection[str]], candidates: Collection[str] | None, *, min_runs: int = MIN_RUNS
) -> None:
    """Refuse trials that no decoder can be made of and tested.

    labels_of_runs : of each run, what its labelled trials showed; runs without any are left out
    candidates : ids of the pool that is decoded into; None: the labels are the candidates, and must repeat, since a
        decoder of labels knows only those it was fitted to

    Raises BadRequest: ``calibration.runs``, ``calibration.few``, ``calibration.labels``, ``calibration.repeats``,
    ``pool.unknown_candidate``.
    """
    labels = [label for run in labels_of_runs for label in run]
    if len(labels_of_runs) < min_runs:
        raise BadRequest(
            f"expected {min_runs} or more runs with labelled trials, so that each can be left out once, got"
            f" {len(labels_of_runs)}: scan another run, or declare the events of the others",
            code="calibration.runs",
        )
    if len(labels) < MIN_TRIALS:
        raise BadRequest(
            f"expected at least {MIN_TRIALS} labelled trials, got {len(labels)}: scan more, or declare what the trials"
            " showed",
            code="calibration.few",
        )
    if len(set(labels)) < 2:
        raise BadRequest(
            f"expected two or more different labels, got one for all {len(labels)} trials: check the column of the"
            " events that names what was shown",
            code="calibration.labels",
        )
    if candidates is not None:
        unknown = sorted(set(labels) - set(candidates))
        if unknown:
            raise BadRequest(
                f"expected trials that show the pool's {len(candidates)} candidates, got {len(unknown)} others, e.g."
                f" {unknown[0]!r}: build a pool with them, or correct the events",
                code="pool.unknown_candidate",
            )
        return
    runs_of = Counter(label for run in labels_of_runs for label in set(run))
    if min_runs > 1 and max(runs_of.values()) < 2:
        raise BadRequest(
            "expected labels that are shown in two or more runs, got none that repeats: show the same again, or give a"
            " pool of images",
            code="calibration.repeats",
        )


def check_tuned(labels_of_runs: Sequence[Collection[str]]) -> None:
    """Refuse gradient steps that could not be shown to be worth having. Raises BadRequest (``calibration.images``)."""
    n = len({label for run in labels_of_runs for label in run})
    if n < MIN_TUNED:
        raise BadRequest(
            f"expected at least {MIN_TUNED} different images for fine-tuning, some of which are left out to judge it,"
            f" got {n}: show more, or calibrate without fine-tuning",
            code="calibration.images",
        )
