"""From the last trial of an hour to the first decoder: 750 trials, 15,000 voxels, 4,096 numbers of the latent.

    python benchmarks/bench_calibration.py [--whole] [--no-history]

Random numbers of that size; the targets are known before the first trial, since images are pulled back when they are
uploaded. A trial must be taken in within one repetition (1.5 s), and the first decoder must be there within 10 s of the
last trial. The first decoder is ridge regression, with its penalty by cross-validation over images; the inverted
encoding model that it is compared with comes after it. ``--whole`` takes a pull-back through 65,536 of the backbone's
outputs as well.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import report

from training.calibration.closed_form import DIAGONALS, GrowingTrials, folds_by_image

TRIALS, VOXELS, LATENT, FOLDS = 750, 15_000, 4_096, 5
TR_S, LIMIT_S = 1.5, 10.0


def main() -> None:
    given = report.parser(__doc__, whole="the pull-back through a part of a backbone as well").parse_args()
    began = report.machine()
    figures = measure()
    if given.whole:
        figures |= pull_back()
    report.finish("calibration", given, began, ("numpy",), **figures)


def measure() -> dict[str, Any]:
    """Milliseconds of each trial, and seconds (wall, process) of each part of the first decoder."""
    rng = np.random.default_rng(0)
    z_KV = rng.standard_normal((TRIALS, VOXELS), np.float32)
    target_KH = rng.standard_normal((TRIALS, LATENT), np.float32)
    fold_K = folds_by_image(np.arange(TRIALS) % (9 * TRIALS // 10), FOLDS)
    trials, pushes = GrowingTrials(VOXELS, LATENT), report.Clock()
    for k in range(TRIALS):
        pushes.time(lambda k=k: trials.push(z_KV[k : k + 1], target_KH[k : k + 1]))  # type: ignore[misc]
    parts: dict[str, tuple[float, float]] = {}
    penalty = _timed(parts, "penalty", lambda: trials.cross_fit("ridge", fold_K)).penalty
    readout = _timed(parts, "fit", lambda: trials.fit("ridge", penalty))
    _timed(parts, "weights", lambda: readout.weights_VH)
    first = sum(wall for wall, _ in parts.values())
    _timed(parts, "inverted, left out", lambda: trials.cross_fit("inversion", fold_K))
    inverted = _timed(parts, "inverted, fit", lambda: trials.fit("inversion", DIAGONALS[0]))
    _timed(parts, "inverted, weights", lambda: inverted.weights_VH)
    worst = max(pushes.wall_ms)
    print(f"a trial: median {np.median(pushes.wall_ms):.1f} ms, worst {worst:.0f} ms of {1e3 * TR_S:.0f} ms")
    for name, (wall_s, process_s) in parts.items():
        print(f"{name:20s} {wall_s:6.2f} s wall, {process_s:6.2f} s processor")
    print(f"first decoder {first:.2f} s after the last trial (limit {LIMIT_S:.0f} s)")
    return {
        "size": [TRIALS, VOXELS, LATENT],
        "trial_ms": report.spread(pushes.wall_ms),
        "first_decoder_s": round(first, 2),
        "within": {"trial": worst < 1e3 * TR_S, "first_decoder": first < LIMIT_S},
        "parts_s": {name: [round(each, 2) for each in both] for name, both in parts.items()},
    }


def pull_back() -> dict[str, Any]:
    """Seconds to invert a part of a backbone, once for each backbone, and to pull one image back through it."""
    import torch

    from mindsight.decoders.mindeye2 import Layout, MindEye2
    from training.calibration.pull_back import PullBack

    model = MindEye2(Layout(voxels=(8,), hidden=LATENT, tokens=64, dim=1024, n_blocks=0))
    parts: dict[str, tuple[float, float]] = {}
    pulled = _timed(parts, "invert", lambda: PullBack.of(model))
    tokens_KX = torch.randn(16, 64 * 1024)
    _timed(parts, "16 images", lambda: pulled.latents(tokens_KX))
    print({name: f"{wall_s:.1f} s" for name, (wall_s, _) in parts.items()}, f"rank {pulled.rank}")
    return {"pull_back_s": {name: [round(each, 2) for each in both] for name, both in parts.items()}}


def _timed(parts: dict[str, tuple[float, float]], name: str, work: Any) -> Any:
    wall_s, process_s = time.perf_counter(), time.process_time()
    made = work()
    parts[name] = time.perf_counter() - wall_s, time.process_time() - process_s
    return made


if __name__ == "__main__":
    main()
