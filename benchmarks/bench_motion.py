"""Motion correction on simulated volumes with known motion and on a real run, side by side with peers.

    python benchmarks/bench_motion.py [--data ../shared/data] [--rounds 15] [--peer-volumes 2] [--peer-run SimpleITK]

Ours is timed as it runs live: one volume at a time, warm-started; ``prepare`` (linearising anew after a move) between
volumes, reported apart. "extract" samples 15,000 voxels of the posterior brain once, cubic, from the raw volume. Wall
time is what a person waits on this machine as loaded as it is; process time is what the work costs.

Peers (SimpleITK, dipy, antspyx) are measured where they are installed, in turn with ours on the same volumes, one
thread each, estimate only; ``--peer-run`` takes those named through the whole real run too (minutes), for the tSNR
after the same interpolation.

The floor counts multiply-adds (the weighted sum, one interpolation of the reference at each voxel used, the prefilter
of the box around the voxels and their interpolation) at the rate that BLAS reaches on large matrices.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from threadpoolctl import threadpool_limits

from mindsight.preprocessing import Aligned, Realigner, brain_mask, rigid
from mindsight.preprocessing.spline import prefilter, sample_grid
from mindsight.preprocessing.support import MAX_VOXELS
from mindsight.scanner import read_series
from mindsight.volume import Volume

HISTORY = Path(__file__).parent / "history" / "motion.json"
N_EXTRACT = 15_000
Array = NDArray[np.float64]
Estimate = Callable[[Volume, Volume], Array]


@dataclass
class Clock:
    """Wall and process milliseconds of each call."""

    wall_ms: list[float]
    process_ms: list[float]

    @classmethod
    def new(cls) -> Clock:
        return cls([], [])

    def time(self, work: Callable[[], Any]) -> Any:
        wall, process = time.perf_counter(), time.process_time()
        out = work()
        self.wall_ms.append(1e3 * (time.perf_counter() - wall))
        self.process_ms.append(1e3 * (time.process_time() - process))
        return out

    def figures(self) -> dict[str, float]:
        return {
            "median": round(float(np.median(self.wall_ms)), 3),
            "p99": round(float(np.percentile(self.wall_ms, 99)), 3),
            "process": round(float(np.median(self.process_ms)), 3),
            "process_p99": round(float(np.percentile(self.process_ms, 99)), 3),
        }


@dataclass
class Truth:
    """Volumes whose motion against the first is known, and points of the brain in millimetres (4, V)."""

    volumes: list[Volume]
    rigid_T44: Array
    brain_4V: Array
    extract_V3: Array

    @classmethod
    def load(cls, folder: Path) -> Truth:
        image = nib.load(folder / "bold.nii.gz")
        truth, data = np.load(folder / "truth.npz"), np.asarray(image.dataobj)
        volumes = [Volume(np.ascontiguousarray(data[..., t]), image.affine, 1.5, 1, t) for t in range(data.shape[3])]
        ijk = np.argwhere(truth["mask"])
        brain = image.affine @ np.vstack([ijk.T, np.ones(len(ijk))])
        posterior = brain[:3, np.sort(np.argsort(brain[1], kind="stable")[:N_EXTRACT])]
        return cls(volumes, truth["rigid"], brain[:, ::5], np.ascontiguousarray(posterior.T))

    def error_mm(self, a: Array, b: Array) -> Array:
        return np.linalg.norm(((a - b) @ self.brain_4V)[:3], axis=0)

    def accuracy(self, estimates: list[Array]) -> dict[str, float]:
        """estimates : of volumes 1, 2, ..."""
        apart = [self.error_mm(ours, true) for ours, true in zip(estimates, self.rigid_T44[1:], strict=False)]
        found: dict[str, float] = {"mean_mm": float(np.mean(apart)), "max_mm": float(np.max(apart))}
        if len(estimates) > 1:
            steps = range(1, len(estimates))
            ours = [estimates[t] @ rigid.inverse(estimates[t - 1]) for t in steps]
            true = [self.rigid_T44[t + 1] @ rigid.inverse(self.rigid_T44[t]) for t in steps]
            found["jitter_mm"] = float(np.mean([self.error_mm(a, b) for a, b in zip(ours, true, strict=True)]))
        return {name: round(value, 5) for name, value in found.items()}


def live(truth: Truth, rounds: int) -> dict[str, Any]:
    """Ours on the volumes with known motion, as often as ``rounds``."""
    realigner = Realigner(truth.volumes[0])
    start = realigner.state()
    estimate, extract, prepare, both = Clock.new(), Clock.new(), Clock.new(), Clock.new()
    for _ in range(rounds):
        realigner.load_state(start)
        poses = []
        for volume in truth.volumes[1:]:
            prepare.time(realigner.prepare)
            aligned: Aligned = estimate.time(lambda volume=volume: realigner.align(volume))
            extract.time(lambda aligned=aligned: aligned.sample(truth.extract_V3))
            poses.append(aligned.rigid)
    both.wall_ms = list(np.add(estimate.wall_ms, extract.wall_ms))
    both.process_ms = list(np.add(estimate.process_ms, extract.process_ms))
    linearise = [(w, p) for w, p in zip(prepare.wall_ms, prepare.process_ms, strict=True) if p > 1.0]
    return {
        "estimate_ms": estimate.figures(),
        "extract_15k_ms": extract.figures(),
        "estimate_and_extract_ms": both.figures(),
        "off_path_linearise_ms": {
            "median": round(float(np.median([w for w, _ in linearise])), 3),
            "process": round(float(np.median([p for _, p in linearise])), 3),
            "per_volume": round(len(linearise) / len(prepare.wall_ms), 3),
        },
        **truth.accuracy(poses),
    }


def moved(volume: Volume, motion: Array) -> Volume:
    """The volume as if everything in it had moved; what comes from outside of it is 0."""
    back = np.linalg.inv(volume.affine) @ rigid.inverse(motion) @ volume.affine
    out = np.empty(volume.shape, np.float32)
    sample_grid(prefilter(np.ascontiguousarray(volume.data, dtype=np.float32)), np.ascontiguousarray(back[:3]), out)
    voxels = back[:3, :3] @ np.indices(volume.shape).reshape(3, -1) + back[:3, 3:]
    outside = ((voxels < -0.5) | (voxels > np.array(volume.shape)[:, None] - 0.5)).any(axis=0)
    out[outside.reshape(volume.shape)] = 0.0
    return Volume(out.clip(0).astype(np.int16), volume.affine, volume.tr_s, volume.run, volume.index)


def cold(truth: Truth, size: float) -> dict[str, Any]:
    """Eight jumps of ``size`` mm and degrees, each from a start that knows nothing."""
    rng = np.random.default_rng(5)
    realigner = Realigner(truth.volumes[0])
    start = realigner.state()
    clock, errors = Clock.new(), []
    for t in range(1, 9):
        shift, turn = (axis / np.linalg.norm(axis) for axis in rng.normal(size=(2, 3)))
        jump = rigid.exponential(np.r_[np.zeros(3), np.radians(size) * turn], realigner.centre_mm)
        jump[:3, 3] += size * shift
        volume = moved(truth.volumes[t], jump)
        realigner.load_state(start)
        realigner.prepare()
        aligned = clock.time(lambda volume=volume: realigner.align(volume))
        errors.append(float(truth.error_mm(aligned.rigid, jump @ truth.rigid_T44[t]).mean()))
    return {
        "size_mm_degrees": size,
        "recovered": sum(error < 0.1 for error in errors),
        "of": len(errors),
        "worst_mm": round(max(errors), 4),
        "ms": clock.figures() | {"process_max": round(max(clock.process_ms), 3)},
    }


def detrended_tsnr(series_TV: Array) -> float:
    """Median over voxels of mean / standard deviation after a quadratic trend is taken out."""
    t = np.linspace(-1, 1, len(series_TV))
    basis = np.linalg.qr(np.stack([np.ones_like(t), t, t * t], axis=1))[0]
    left = series_TV - basis @ (basis.T @ series_TV)
    return float(np.median(series_TV.mean(axis=0) / left.std(axis=0)))


def dvars_percent(series_TV: Array) -> float:
    return float(100 * np.sqrt((np.diff(series_TV, axis=0) ** 2).mean(axis=1)).mean() / series_TV.mean())


def quality(volumes: list[Volume], poses: list[Array]) -> dict[str, float]:
    """tSNR and DVARS over the head after the same cubic interpolation, whoever found the poses."""
    mask, centre = brain_mask(volumes[0].data), np.zeros(3)
    series_TV = np.array(
        [Aligned(volumes[0], v, pose, centre).sample(mask) for v, pose in zip(volumes, poses, strict=True)], np.float64
    )
    return {"tsnr": round(detrended_tsnr(series_TV), 3), "dvars_percent": round(dvars_percent(series_TV), 4)}


def real(volumes: list[Volume], spm_T6: Array) -> dict[str, Any]:
    """Ours on the real run, first to last, timed in the second pass of two."""
    realigner = Realigner(volumes[0])
    start = realigner.state()
    for _ in range(2):
        realigner.load_state(start)
        clock, poses = Clock.new(), []
        for volume in volumes:
            realigner.prepare()
            poses.append(clock.time(lambda volume=volume: realigner.align(volume)))
    ours_T6 = np.array([np.r_[aligned.translation_mm, aligned.rotation_rad] for aligned in poses])
    r = [float(np.corrcoef(ours_T6[:, c], spm_T6[:, c])[0, 1]) for c in range(6)]
    apart = [np.degrees(np.abs(ours_T6[:, c] - np.sign(r[c]) * spm_T6[:, c]).max()) for c in range(3, 6)]
    return {
        "estimate_ms": clock.figures(),
        "uncorrected": quality(volumes, [np.eye(4)] * len(volumes)),
        "corrected": quality(volumes, [aligned.rigid for aligned in poses]),
        "r_with_spm": [round(value, 3) for value in r],
        "largest_rotation_difference_degrees": round(float(max(apart)), 3),
    }


# Peers. Each works on the voxel grid scaled to millimetres; ``frame`` takes that to the scanner's millimetres.


def frame(volume: Volume) -> Array:
    return volume.affine @ np.diag([*(1.0 / volume.voxel_mm), 1.0])


def in_scanner(reference: Volume, matrix: Array) -> Array:
    return frame(reference) @ matrix @ np.linalg.inv(frame(reference))


def about(rotation: Array, shift: Array, centre: Array) -> Array:
    return rigid.about(rotation, shift, centre)


def simpleitk() -> Estimate:
    """Euler transform, mean squares on 10 % of the voxels, regular step descent."""
    sitk = import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)

    def image(volume: Volume) -> Any:
        out = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T, dtype=np.float32))
        out.SetSpacing(volume.voxel_mm.tolist())
        return out

    def estimate(reference: Volume, volume: Volume) -> Array:
        centre = ((np.array(reference.shape) - 1) / 2 * reference.voxel_mm).tolist()
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMeanSquares()
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.1, 1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 100)
        method.SetOptimizerScalesFromPhysicalShift()
        first = sitk.Euler3DTransform()
        first.SetCenter(centre)
        method.SetInitialTransform(first, inPlace=True)
        method.Execute(image(reference), image(volume))
        rotation = np.array(first.GetMatrix()).reshape(3, 3)
        return in_scanner(reference, about(rotation, np.array(first.GetTranslation()), np.array(centre)))

    return estimate


def antspyx() -> Estimate:
    """BOLDRigid, the preset that ANTs offers for motion correction."""
    ants = import_module("ants")

    def image(volume: Volume) -> Any:
        return ants.from_numpy(np.asarray(volume.data, np.float32), spacing=volume.voxel_mm.tolist())

    def estimate(reference: Volume, volume: Volume) -> Array:
        found = ants.registration(image(reference), image(volume), type_of_transform="BOLDRigid", random_seed=1)
        transform = ants.read_transform(found["fwdtransforms"][0])
        rotation, shift = np.array(transform.parameters[:9]).reshape(3, 3), np.array(transform.parameters[9:])
        return in_scanner(reference, about(rotation, shift, np.array(transform.fixed_parameters)))

    return estimate


def dipy() -> Estimate:
    """affine_registration with its own pipeline up to rigid."""
    align = import_module("dipy.align")

    def estimate(reference: Volume, volume: Volume) -> Array:
        _, matrix = align.affine_registration(
            volume.data.astype(np.float64),
            reference.data.astype(np.float64),
            moving_affine=volume.affine,
            static_affine=reference.affine,
            pipeline=["center_of_mass", "translation", "rigid"],
        )
        return np.asarray(matrix)

    return estimate


PEERS: dict[str, tuple[str, Callable[[], Estimate]]] = {
    "SimpleITK": ("SimpleITK", simpleitk),
    "antspyx": ("ants", antspyx),
    "dipy": ("dipy", dipy),
}


def side_by_side(truth: Truth, volumes: list[Volume], n: int, whole_run: list[str]) -> dict[str, Any]:
    """Each peer that is installed and ours, in turn, on the first ``n`` moved volumes."""
    found: dict[str, Any] = {}
    reference = truth.volumes[0]
    for name, (module, make) in PEERS.items():
        if find_spec(module) is None:
            print(f"{name}: not installed, skipped")
            continue
        estimate, realigner = make(), Realigner(reference)
        theirs, ours, poses = Clock.new(), Clock.new(), []
        for volume in truth.volumes[1 : n + 1]:
            realigner.prepare()
            ours.time(lambda volume=volume, realigner=realigner: realigner.align(volume))
            poses.append(theirs.time(lambda volume=volume, estimate=estimate: estimate(reference, volume)))
        ratios = {kind: np.divide(getattr(theirs, kind), getattr(ours, kind)) for kind in ("wall_ms", "process_ms")}
        found[name] = {
            "estimate_ms": theirs.figures(),
            "times_ours_wall": round(float(np.median(ratios["wall_ms"])), 1),
            "times_ours_process": round(float(np.median(ratios["process_ms"])), 1),
            **truth.accuracy(poses),
        }
        if name in whole_run:
            found[name]["real_run"] = quality(volumes, [np.eye(4), *(estimate(volumes[0], v) for v in volumes[1:])])
    return found


def floor_ms(truth: Truth) -> dict[str, float]:
    """Multiply-adds of one volume at BLAS's rate on one thread."""
    a = np.ones((1024, 1024), np.float32)
    clock = Clock.new()
    for _ in range(9):
        clock.time(lambda: a @ a)
    per_ms = 1024**3 / min(clock.process_ms)
    ijk = (truth.extract_V3 - truth.volumes[0].affine[:3, 3]) @ np.linalg.inv(truth.volumes[0].affine[:3, :3]).T
    box = float(np.prod(np.ptp(ijk, axis=0) + 1))
    estimate = MAX_VOXELS * (6 + 6 + 64 + 36)
    extract = box * 3 * 4 + N_EXTRACT * (64 + 36)
    return {"estimate": round(estimate / per_ms, 3), "extract_15k": round(extract / per_ms, 3)}


def show(entry: dict[str, Any]) -> None:
    ours = entry["known_motion"]
    for name in ("estimate_ms", "extract_15k_ms", "estimate_and_extract_ms"):
        ms = ours[name]
        print(
            f"ours, 2 mm: {name:26} median {ms['median']:8.2f}  p99 {ms['p99']:8.2f}  process {ms['process']:8.2f}"
            f"  process p99 {ms['process_p99']:8.2f}"
        )
    print(f"ours, 2 mm: linearise, off the path    {ours['off_path_linearise_ms']}")
    print(f"floor: {entry['floor_ms']} ms of multiply-adds")
    print(f"ours, error mean {ours['mean_mm']:.4f}, max {ours['max_mm']:.4f}, jitter {ours['jitter_mm']:.4f} mm")
    for jump in entry["cold_start"]:
        print(f"ours, cold start: {jump}")
    for name, peer in entry["peers"].items():
        print(f"{name}: {peer}")
    print(f"real run: {entry['real_run']}")
    print(f"load {entry['machine']['load']:.1f} on {entry['machine']['cores']} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peer-volumes", type=int, default=2)
    parser.add_argument(
        "--peer-run", nargs="*", default=[], choices=[*PEERS], help="peers to take through the real run"
    )
    parser.add_argument("--no-history", action="store_true", help="print only")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    truth = Truth.load(arguments.data / "motion_truth" / "typical")
    volumes = list(read_series(arguments.data / "trio_run155" / "dcm"))
    spm_T6 = loadmat(arguments.data / "trio_run155" / "spm_motion.mat")["mc_series_matlab"].astype(np.float64)
    with threadpool_limits(1):
        entry = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": {
                "cpu": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "load": os.getloadavg()[0],
            },
            "known_motion": live(truth, arguments.rounds),
            "floor_ms": floor_ms(truth),
            "cold_start": [cold(truth, size) for size in (6.0, 12.0)],
            "real_run": real(volumes, spm_T6),
            "peers": side_by_side(truth, volumes, arguments.peer_volumes, arguments.peer_run),
        }
    show(entry)
    if not arguments.no_history:
        history = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
        HISTORY.parent.mkdir(exist_ok=True)
        HISTORY.write_text(json.dumps([*history, entry], indent=1) + "\n")


if __name__ == "__main__":
    main()
