"""Motion correction on volumes with known motion and on a real run, side by side with peers, in one run.

    python benchmarks/bench_motion.py [--volumes 60] [--peer-volumes 3] [--whole] [--no-history]

Ours is timed as it runs live: one volume at a time, one thread, each from the pose of the last. "extract" samples
15,000 voxels of the posterior brain once, cubic, from the raw volume. "fast" is the mode that skips the last step.
Accuracy is over the brain, on three simulations (simulate_motion.py) and on the one that was given.

Peers (SimpleITK, antspyx, dipy) are measured if they are installed, in turn with ours on the same volumes, estimate
only, one thread each; peers measure no jitter or maximum worth comparing on a few volumes, but the mean says enough.
SimpleITK goes through the whole real run, the slower ones (with ``--whole``) through every fifth volume of it, and tSNR
is compared over the same volumes after the same interpolation, regardless of which program found the poses.

The floor counts what one volume cannot do without: 64 taps and 171 products of columns at each voxel looked at, per
step, and for the voxels extracted the prefilter of the box around them, at the rate of BLAS on large matrices.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import motion_peers
import nibabel as nib
import numpy as np
import report
import simulate_motion
from numpy.typing import NDArray
from report import Clock
from scipy.io import loadmat
from threadpoolctl import threadpool_limits

from mindsight.preprocessing import Aligned, Realigner, brain_mask
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.motion.newton import N_COLUMNS
from mindsight.preprocessing.motion.realign import FEW
from mindsight.preprocessing.motion.spline import prefilter, sample_grid
from mindsight.preprocessing.motion.voxel_selection import MAX_VOXELS
from mindsight.scanner import read_series
from mindsight.volume import Volume

N_EXTRACT = 15_000
EVERY = 5  # of the real run's volumes, for peers that take seconds for one
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """Volumes whose motion against the first is known; points of the brain (4, V) and some to extract (V, 3), in mm."""

    volumes: list[Volume]
    rigid_T44: Array
    brain_4V: Array
    extract_V3: Array

    @classmethod
    def of(cls, volumes: list[Volume], rigid_T44: Array, brain_XYZ: NDArray[np.bool_]) -> Course:
        ijk = np.argwhere(brain_XYZ)
        brain = volumes[0].affine @ np.vstack([ijk.T, np.ones(len(ijk))])
        posterior = brain[:3, np.sort(np.argsort(brain[1], kind="stable")[:N_EXTRACT])]
        return cls(volumes, rigid_T44, brain[:, ::5], np.ascontiguousarray(posterior.T))

    @classmethod
    def given(cls, folder: Path) -> Course:
        image, truth = nib.load(folder / "bold.nii.gz"), np.load(folder / "truth.npz")
        data = np.asarray(image.dataobj)
        volumes = [Volume(np.ascontiguousarray(data[..., t]), image.affine, 1.5, 1, t) for t in range(data.shape[3])]
        return cls.of(volumes, truth["rigid"], truth["mask"])

    @classmethod
    def simulated(cls, name: str, n: int) -> Course:
        truth = simulate_motion.simulate(name, n)
        return cls.of(truth.volumes, truth.rigid_T44, truth.brain_XYZ)

    def error_mm(self, a: Array, b: Array) -> Array:
        return np.linalg.norm(((a - b) @ self.brain_4V)[:3], axis=0)

    def motion(self) -> dict[str, float]:
        apart = [float(self.error_mm(true, np.eye(4)).mean()) for true in self.rigid_T44[1:]]
        return {"motion_mean_mm": round(float(np.mean(apart)), 2), "motion_worst_mm": round(max(apart), 2)}

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


def live(course: Course, *, fast: bool) -> dict[str, Any]:
    """Ours, volume by volume: errors and times."""
    realigner = Realigner(course.volumes[0], fast=fast)
    estimate, extract, both = Clock(), Clock(), Clock()
    poses = []
    for volume in course.volumes[1:]:
        aligned: Aligned = estimate.time(lambda volume=volume: realigner.align(volume))
        extract.time(lambda aligned=aligned: aligned.sample(course.extract_V3))
        poses.append(aligned.rigid)
    both.wall_ms = list(np.add(estimate.wall_ms, extract.wall_ms))
    both.process_ms = list(np.add(estimate.process_ms, extract.process_ms))
    return {
        **course.accuracy(poses),
        "estimate_ms": estimate.figures(),
        "extract_15k_ms": extract.figures(),
        "estimate_and_extract_ms": both.figures(),
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


def cold(course: Course, size: float) -> dict[str, Any]:
    """Eight jumps of ``size`` mm and degrees, each from a start that knows nothing."""
    rng = np.random.default_rng(5)
    realigner = Realigner(course.volumes[0])
    start = realigner.state()
    clock, errors = Clock(), []
    for t in range(1, 9):
        shift, turn = (axis / np.linalg.norm(axis) for axis in rng.normal(size=(2, 3)))
        jump = rigid.exponential(np.r_[np.zeros(3), np.radians(size) * turn], realigner.centre_mm)
        jump[:3, 3] += size * shift
        volume = moved(course.volumes[t], jump)
        realigner.load_state(start)
        aligned = clock.time(lambda volume=volume: realigner.align(volume))
        errors.append(float(course.error_mm(aligned.rigid, jump @ course.rigid_T44[t]).mean()))
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
    """tSNR and DVARS over the head after the same cubic interpolation, regardless of which program found the poses."""
    mask, centre = brain_mask(volumes[0].data), np.zeros(3)
    series_TV = np.array(
        [Aligned(volumes[0], v, pose, centre).sample(mask) for v, pose in zip(volumes, poses, strict=True)], np.float64
    )
    return {"tsnr": round(detrended_tsnr(series_TV), 3), "dvars_percent": round(dvars_percent(series_TV), 4)}


def real(volumes: list[Volume], spm_T6: Array) -> tuple[dict[str, Any], list[Array]]:
    """Ours on the real run, first to last; and its poses."""
    realigner = Realigner(volumes[0])
    clock = Clock()
    aligned = [clock.time(lambda volume=volume: realigner.align(volume)) for volume in volumes]
    ours_T6 = np.array([np.r_[one.translation_mm, one.rotation_rad] for one in aligned])
    r = [float(np.corrcoef(ours_T6[:, c], spm_T6[:, c])[0, 1]) for c in range(6)]
    apart = [np.degrees(np.abs(ours_T6[:, c] - np.sign(r[c]) * spm_T6[:, c]).max()) for c in range(3, 6)]
    poses = [one.rigid for one in aligned]
    return {
        "estimate_ms": clock.figures(),
        "uncorrected": quality(volumes, [np.eye(4)] * len(volumes)),
        "corrected": quality(volumes, poses),
        "r_with_spm": [round(value, 3) for value in r],
        "largest_rotation_difference_degrees": round(float(max(apart)), 3),
    }, poses


def side_by_side(course: Course, n: int) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Each peer that is installed and ours, in turn, on the first ``n`` moved volumes: errors, and the table."""
    peers = motion_peers.installed()
    names = ["ours", "ours, fast", *peers]
    clocks, poses = {name: Clock() for name in names}, {name: [] for name in names}
    ours = {"ours": Realigner(course.volumes[0]), "ours, fast": Realigner(course.volumes[0], fast=True)}
    for volume in course.volumes[1 : n + 1]:
        for name, realigner in ours.items():
            poses[name].append(clocks[name].time(lambda volume=volume, r=realigner: r.align(volume)).rigid)
        for name, peer in peers.items():
            found = clocks[name].time(lambda volume=volume, peer=peer: peer(course.volumes[0], volume))
            poses[name].append(found)
    table = report.compared(clocks, ours=dict.fromkeys(peers, "ours"))
    return {name: course.accuracy(found) for name, found in poses.items()}, table


def peers_on_real_run(volumes: list[Volume], ours: list[Array], *, whole: bool) -> dict[str, Any]:
    """tSNR after each peer's poses and after ours, over the same volumes."""
    found: dict[str, Any] = {}
    for name, peer in motion_peers.installed().items():
        every = 1 if name == "SimpleITK" else EVERY
        if every > 1 and not whole:
            continue
        some = volumes[::every]
        clock = Clock()
        poses = [clock.time(lambda v=volume, peer=peer: peer(volumes[0], v)) for volume in some[1:]]
        found[name] = {
            "volumes": len(some),
            "theirs": quality(some, [np.eye(4), *poses]),
            "ours": quality(some, ours[::every]),
            "estimate_ms": clock.figures(),
        }
    return found


def floor_ms(course: Course) -> dict[str, float]:
    """Multiply-adds of one volume at BLAS's rate on one thread: two steps of the few voxels and one of all."""
    affine = course.volumes[0].affine
    ijk = (course.extract_V3 - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    box = float(np.prod(np.ptp(ijk, axis=0) + 1))
    looks = (2 * FEW + 1) * MAX_VOXELS
    work = {
        "estimate": looks * (64 + N_COLUMNS * (N_COLUMNS + 1) // 2),
        "extract_15k": box * 3 * 4 + N_EXTRACT * 64,
    }
    return {name: round(n * report.blas_ms_per_multiply_add(), 3) for name, n in work.items()}


def show(courses: dict[str, Any], floor: dict[str, float], errors: dict[str, Any]) -> None:
    print(f"\n{'mm':<26}{'mean':>9}{'max':>9}{'jitter':>9}   (targets .007, .03, .003)")
    for name, figures in courses.items():
        for mode in ("exact", "fast"):
            one = figures[mode]
            print(f"{name + ', ' + mode:<26}{one['mean_mm']:>9.4f}{one['max_mm']:>9.4f}{one['jitter_mm']:>9.4f}")
    for name, one in errors.items():
        print(f"{name + ', few volumes':<26}{one['mean_mm']:>9.4f}{one['max_mm']:>9.4f}")
    rows = {
        f"{name}, {mode}: {what}": figures[mode][what + "_ms"]
        for name, figures in courses.items()
        for mode in ("exact", "fast")
        for what in ("estimate", "extract_15k", "estimate_and_extract")
    }
    rows["floor: estimate"] = {"floor": floor["estimate"]}
    rows["floor: extract_15k"] = {"floor": floor["extract_15k"]}
    report.print_table("ours, one volume of 120 x 120 x 78 at 2 mm", rows)


def main() -> None:
    parser = report.parser(__doc__, whole="take the slow peers, too, through a fifth of the real run")
    parser.add_argument("--volumes", type=int, default=60, help="of each simulation")
    parser.add_argument("--peer-volumes", type=int, default=3)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    began = report.machine()
    if missing := motion_peers.missing():
        print(f"not installed, left out: {', '.join(missing)}")
    known = Course.given(report.DATA / "motion_truth" / "typical")
    volumes = list(read_series(report.DATA / "trio_run155" / "dcm"))
    spm_T6 = loadmat(report.DATA / "trio_run155" / "spm_motion.mat")["mc_series_matlab"].astype(np.float64)
    with threadpool_limits(1):
        courses: dict[str, Any] = {}
        for name in ("given", *simulate_motion.KINDS):
            course = known if name == "given" else Course.simulated(name, given.volumes)
            modes = {mode: live(course, fast=mode == "fast") for mode in ("exact", "fast")}
            courses[name] = {"volumes": len(course.volumes), **course.motion(), **modes}
        floor, jumps = floor_ms(known), [cold(known, size) for size in (6.0, 12.0)]
        on_real, poses = real(volumes, spm_T6)
        errors, table = side_by_side(known, given.peer_volumes)
        show(courses, floor, errors)
        report.print_table("estimate only, in turn with peers on the same volumes", table)
        on_real["peers"] = peers_on_real_run(volumes, poses, whole=given.whole)
    for jump in jumps:
        print(f"cold start: {jump}")
    print(f"real run: {on_real}")
    report.finish(
        "motion",
        given,
        began,
        ["numpy", "numba", "scipy"],
        known_motion=courses,
        floor_ms=floor,
        cold_start=jumps,
        real_run=on_real,
        peers={name: {**table[name], **errors[name]} for name in table},
    )


if __name__ == "__main__":
    main()
