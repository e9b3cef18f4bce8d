"""Motion correction on a GPU beside the processor's, on the same volumes: times, and how far the results lie apart.

    python benchmarks/bench_motion_gpu.py [--device cuda] [--volumes 20] [--no-history]

One command on a machine with a CUDA device; nothing but the installed project is needed (the volumes are simulated, see
simulate_motion.py). Without one it says so and measures nothing; ``--device cpu`` runs the same code on the processor,
to see that it runs.

"whole" is one volume as the worker has it: upload, check on the CPU, the steps, the pose back, 15,000 voxels
sampled and back. "graph" is the device's part alone (prefilter, steps, sampling) replayed as one CUDA graph, with the
volume already there.
"""

from __future__ import annotations

import numpy as np
import report
import simulate_motion
import torch
from gpu_motion import graph
from numpy.typing import NDArray
from report import Clock
from threadpoolctl import threadpool_limits

from mindsight.preprocessing import Realigner
from mindsight.volume import Volume

Array = NDArray[np.float64]
N_EXTRACT = 15_000
GRAPH_ROUNDS = 200


def graph_ms(realigner: Realigner, truth: simulate_motion.Truth, points_V3: Array, device: torch.device) -> float:
    """Median of one volume's work on the device, from and to its own memory."""
    replay, clock = graph(realigner, truth.volumes[1], points_V3, device), Clock()

    def once() -> None:
        replay()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(GRAPH_ROUNDS if device.type == "cuda" else 3):
        clock.time(once)
    return round(float(np.median(clock.wall_ms)), 4)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--volumes", type=int, default=20)
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here: nothing measured")
        return
    began = report.machine()
    truth = simulate_motion.simulate("large", given.volumes)
    brain_V3 = np.argwhere(truth.brain_XYZ) @ truth.volumes[0].affine[:3, :3].T + truth.volumes[0].affine[:3, 3]
    points_V3 = np.ascontiguousarray(brain_V3[np.sort(np.argsort(brain_V3[:, 1], kind="stable")[:N_EXTRACT])])
    brain_4V = np.vstack([brain_V3[::5].T, np.ones(len(brain_V3[::5]))])
    with threadpool_limits(1):
        here, there = Realigner(truth.volumes[0]), Realigner(truth.volumes[0], device=given.device)
        clocks = {"processor, whole": Clock(), f"{given.device}, whole": Clock()}
        apart_mm, samples_apart, errors_mm = [], [], {name: [] for name in clocks}
        for t, volume in enumerate(truth.volumes):
            found = []
            for (name, clock), realigner in zip(clocks.items(), (here, there), strict=True):
                clock = clock if t > 0 else Clock()

                def whole(
                    volume: Volume = volume, realigner: Realigner = realigner
                ) -> tuple[Array, NDArray[np.float32]]:
                    aligned = realigner.align(volume)
                    return aligned.rigid, aligned.sample(points_V3)

                pose, sample_V = clock.time(whole)
                found.append((pose, sample_V))
                errors_mm[name].append(np.linalg.norm(((pose - truth.rigid_T44[t]) @ brain_4V)[:3], axis=0).mean())
            (pose, sample_V), (other_pose, other_V) = found
            apart_mm.append(float(np.linalg.norm(((pose - other_pose) @ brain_4V)[:3], axis=0).max()))
            samples_apart.append(float(np.sqrt(np.mean((sample_V - other_V) ** 2)) / sample_V.mean()))
        table = report.compared(clocks)
        graph = graph_ms(there, truth, points_V3, device)
    report.print_table(f"120 x 120 x 78 at 2 mm and {N_EXTRACT} voxels", table)
    figures = {
        "graph_ms": graph,
        "poses_apart_max_mm": round(max(apart_mm), 6),
        "samples_apart_rms_of_mean": max(samples_apart),
        "mean_error_mm": {name: round(float(np.mean(errors[1:])), 5) for name, errors in errors_mm.items()},
    }
    print(figures)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        report.finish("motion_gpu", given, began, ["numpy", "numba", "torch"], gpu=name, whole=table, **figures)


if __name__ == "__main__":
    main()
