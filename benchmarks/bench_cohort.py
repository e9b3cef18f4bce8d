"""What an hour of calibration is worth: a simulated cohort whose noise ceiling and best decoder are known.

    python benchmarks/bench_cohort.py [--seeds 0 1 2] [--whole] [--no-history]

A model pretrained on six participants is calibrated on a seventh with 75 to 750 trials, in closed form and by
fine-tuning; the same model is trained from scratch on the seventh alone, with up to 3,000 trials; a linear decoder and
shuffled pairs stand beside them. 300 candidates in 100 families of look-alikes. Then accuracy against processor time:
the closed form, and gradient steps from a random layer. Writes ``benchmarks/figures/cohort.svg``. ``--whole`` pretrains
for longer.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import report
import torch

from mindsight.accuracy import Accuracy
from training.calibration.cohort_figures import Figure, Plan, figures, pretrained, race

FIGURE = report.HERE / "figures" / "cohort.svg"
BEST, LONG = "best there is", 3
RACE_TRIALS = 750


def main() -> None:
    parser = report.parser(__doc__, whole="pretrain for longer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one cohort each (default 0 1 2)")
    given = parser.parse_args()
    began = report.machine()
    torch.set_num_threads(1)  # the networks are too small for more
    plan = Plan()
    if given.whole:
        plan = replace(plan, pretraining=replace(plan.pretraining, steps=LONG * plan.pretraining.steps))
    found, raced, pretraining_s = [], [], []
    for seed in given.seeds:
        started = time.process_time()
        model = pretrained(plan, seed)
        pretraining_s.append(round(time.process_time() - started, 1))
        for figure in figures(plan, seed, model):
            found.append(figure)
            print(f"seed {seed}  {figure.decoder:36s} {figure.trials:5d} trials  {figure.accuracy}", flush=True)
        raced = raced or list(race(plan, seed, RACE_TRIALS, model))
    table = merged(found)
    print("\n".join(rows(table)))
    draw(table, raced)
    measured = [
        {"decoder": name, "trials": n, "hits": accuracy.hits, "n": accuracy.n, "value": round(accuracy.value, 4)}
        for (name, n), accuracy in table.items()
    ]
    report.finish(
        "cohort",
        given,
        began,
        ("torch",),
        figures=measured,
        race=[[name, round(s, 3), round(accuracy.value, 4)] for name, s, accuracy in raced],
        pretraining_cpu_s=pretraining_s,
    )


def merged(found: Sequence[Figure]) -> dict[tuple[str, int], Accuracy]:
    """All seeds together."""
    table: dict[tuple[str, int], Accuracy] = {}
    for figure in found:
        key = figure.decoder.removesuffix(" (closed form kept)"), figure.trials
        table[key] = table[key] + figure.accuracy if key in table else figure.accuracy
    return table


def rows(table: dict[tuple[str, int], Accuracy]) -> list[str]:
    best = table[BEST, 0].value
    return [
        f"{name:30s} {n:5d} trials  {accuracy}  {accuracy.value / best:6.1%} of the best"
        for (name, n), accuracy in table.items()
    ]


def draw(table: dict[tuple[str, int], Accuracy], raced: Sequence[tuple[str, float, Accuracy]]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "cohort"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    lines: dict[str, list[tuple[int, Accuracy]]] = defaultdict(list)
    for (name, n), accuracy in table.items():
        lines[name].append((n, accuracy))
    best = lines.pop(BEST)[0][1]
    for axes in (left, right):
        axes.axhline(best.value, color="black", linewidth=1)
        axes.axhline(0.85 * best.value, color="black", linewidth=1, linestyle="dashed")
        axes.axhline(best.chance, color="grey", linewidth=1, linestyle="dotted")
    left.annotate("best decoder there is", (3000, best.value), va="bottom", ha="right")
    left.annotate("85 % of it", (3000, 0.85 * best.value), va="bottom", ha="right")
    for name, points in lines.items():
        errors = [[a.value - a.interval[0] for _, a in points], [a.interval[1] - a.value for _, a in points]]
        left.errorbar([n for n, _ in points], [a.value for _, a in points], errors, marker="o", capsize=3, label=name)
    left.set(xscale="log", xlabel="trials of the new participant", ylabel="right of 300 candidates", ylim=(0.0, 0.95))
    left.set_xticks([75, 150, 375, 750, 3000], ["75", "150", "375", "750", "3,000"])
    left.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0.0, 0.8))
    by_time: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, spent_s, accuracy in raced:
        by_time[name].append((spent_s, accuracy.value))
    for name, curve in by_time.items():
        right.plot(*zip(*curve, strict=True), marker="o", markersize=3, label=name)
    right.set(xscale="log", xlabel=f"processor seconds, {RACE_TRIALS} trials")
    right.legend(fontsize="small", loc="center left")
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
