"""``python -m training.recipes.demo``: make the subject bundle that ships, by the steps a laboratory takes.

Participant and scanner are simulated; all else is the real way: an hour of scanning through the same ingest code as
live, single-trial betas, a mask of reliable voxels, fine-tuning of the pretrained shared-subject model, a temperature
fitted on first and final answers of runs that were held out, a bundle.

Letters: K trials, V voxels, N candidates, T tokens, D channels.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mindsight import assets
from mindsight.accuracy import Accuracy, top_k
from mindsight.decoders.mindeye2 import MindEye2, fold, load_mindeye2
from mindsight.encoders.demo import Encoder
from mindsight.glm import Event
from mindsight.glm.normalise import Statistics
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.quality.baseline import baseline_of, measure_signal
from mindsight.retrieval import CandidatePool, calibrate
from mindsight.retrieval.ranking import cosine_scores
from mindsight.simulator.experiment import Design
from mindsight.simulator.session import SimulatedSession, make_participant
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.state_dict import write_state_dict
from training.pretraining.mindeye import Config, finetune

PARTICIPANT, POOL_SEED, N_POOL = 7, 1, 100
HOUR = Design(trials_per_run=54, repeats_per_run=6)
N_RUNS, N_HELD_OUT = 14, 2
MIN_RELIABILITY = 0.3
SHUFFLES = 10


@dataclass(frozen=True, eq=False)
class Scanned:
    """One visit's final betas, run by run, which scene each showed, the trials' first answers, each run's signal."""

    space: SubjectSpace
    betas_KV: NDArray[np.float32]
    fast_KV: NDArray[np.float32]
    run_K: NDArray[np.intp]
    shown_K: NDArray[np.intp]
    signal_R2V: NDArray[np.float32]

    def z_KV(self, of_KV: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """(K, V) final betas, or ``of_KV``, z-scored by the final ones of each run."""
        of_KV = self.betas_KV if of_KV is None else of_KV
        z_KV = np.empty_like(of_KV)
        for run in np.unique(self.run_K):
            rows = self.run_K == run
            betas = self.betas_KV[rows]
            z_KV[rows] = (of_KV[rows] - betas.mean(axis=0)) / betas.std(axis=0).clip(1e-6)
        return z_KV


def scan(visit: SimulatedSession, options: IngestOptions) -> Scanned:
    """The whole visit through ingest, as live; every voxel of the brain."""
    ingest = IngestSession(options, clock=time.perf_counter)
    betas, fast, runs, shown, signals = [], [], [], [], []
    for plan in visit.plans:
        ingest.start_run(plan.run, plan.tr_s, plan.n_volumes)
        for event in plan.shown:
            ingest.add_event(plan.run, Event(event.onset_s, event.duration_s, event.trial))
        outputs = [ingest.push(volume) for volume in visit.volumes(plan)]
        first = {beta.trial: beta.beta_V for output in outputs for beta in output.betas if beta.stage == "fast"}
        pictures = {event.trial: event.candidate for event in plan.shown}
        for beta in ingest.end_run(plan.run):
            betas.append(beta.beta_V)
            fast.append(first[beta.trial])
            runs.append(plan.run)
            shown.append(pictures[beta.trial])
        good_T = [not output.report.censored for output in outputs]
        signals.append(measure_signal(ingest.run_series(plan.run)[good_T]))
        print(f"run {plan.run} of {len(visit.plans)} scanned", flush=True)
    assert ingest.space is not None
    return Scanned(ingest.space, np.stack(betas), np.stack(fast), np.array(runs), np.array(shown), np.stack(signals))


def reliable(scanned: Scanned) -> NDArray[np.bool_]:
    """(V,) voxels that answer a picture alike whenever it is shown: correlation over pictures of pairs of showings."""
    z_KV = scanned.z_KV()
    pairs = []
    for picture in np.unique(scanned.shown_K):
        rows = np.flatnonzero(scanned.shown_K == picture)
        pairs += list(itertools.pairwise(rows))
    first, second = (z_KV[[pair[i] for pair in pairs]] for i in (0, 1))
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    lengths_V = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0)).clip(1e-9)
    return np.asarray((first * second).sum(axis=0) / lengths_V > MIN_RELIABILITY)


def narrow(scanned: Scanned, keep_V: NDArray[np.bool_]) -> Scanned:
    """The same visit in fewer voxels."""
    mask_XYZ = np.zeros(scanned.space.mask_XYZ.shape, np.bool_)
    mask_XYZ[scanned.space.mask_XYZ] = keep_V
    return replace(
        scanned,
        space=SubjectSpace(scanned.space.reference, mask_XYZ),
        betas_KV=scanned.betas_KV[:, keep_V],
        fast_KV=scanned.fast_KV[:, keep_V],
        signal_R2V=scanned.signal_R2V[..., keep_V],
    )


def held_out_scores(
    model: MindEye2, z_KV: NDArray[np.float32], pool: CandidatePool, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(K, N) cosines of trials with the pool, and (M, N) of the same trials with their voxels shuffled."""
    folded = fold(model)

    def scores(voxels_KV: NDArray[np.float32]) -> NDArray[np.float32]:
        return cosine_scores(folded.tokens(torch.from_numpy(voxels_KV)).retrieval.numpy(), pool)

    shuffled = rng.permuted(np.tile(z_KV, (SHUFFLES, 1)), axis=1)
    return scores(z_KV), scores(shuffled)


def write_images(folder: Path, images_NHW3: NDArray[np.uint8]) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"scene-{i:03d}.png" for i in range(len(images_NHW3)))
    for path, image in zip(paths, images_NHW3, strict=True):
        Image.fromarray(image).save(path, optimize=True)
    return paths


def make_bundle(out: Path, seed: int = 0) -> tuple[Bundle, Accuracy, Accuracy]:
    """The bundle, its accuracy on the held-out runs, and that of shuffled betas."""
    encoder = Encoder.load(assets.ENCODER)
    participant = make_participant(encoder.tokens, PARTICIPANT, encoder.image_size)
    hour = SimulatedSession(
        encoder.tokens, participant, image_px=encoder.image_size, pool_seed=200, n_pool=640, seed=11, n_runs=N_RUNS,
        design=HOUR,
    )  # fmt: skip
    options = IngestOptions(noise="ar1", normalise="running")
    everywhere = scan(hour, options)
    scanned = narrow(everywhere, reliable(everywhere))
    print(f"{scanned.space.n_voxels} reliable voxels of {everywhere.space.n_voxels}", flush=True)

    z_KV = scanned.z_KV()
    tokens_KTD = torch.from_numpy(hour.tokens_NTD[scanned.shown_K].astype(np.float32))
    train = scanned.run_K <= N_RUNS - N_HELD_OUT
    pretrained = load_mindeye2(assets.MINDEYE2 / "mindeye2.safetensors")
    model = finetune(pretrained, torch.from_numpy(z_KV[train]), tokens_KTD[train], Config(), seed)

    asked = np.unique(scanned.shown_K[~train])
    asked_pool = CandidatePool(tuple(map(str, asked)), hour.tokens_NTD[asked].astype(np.float32))
    right_KN = scanned.shown_K[~train][:, None] == asked[None]
    rng = np.random.default_rng(seed)
    scores_KN, null_MN = held_out_scores(model, z_KV[~train], asked_pool, rng)
    fast_KN, fast_null_MN = held_out_scores(model, scanned.z_KV(scanned.fast_KV)[~train], asked_pool, rng)
    # confidence is asked for at every stage, and final answers alone are all right here: calibrate on first and last
    calibration = calibrate(
        np.concatenate([scores_KN, fast_KN]), np.tile(right_KN, (2, 1)), np.concatenate([null_MN, fast_null_MN])
    )
    accuracy = top_k(scores_KN, right_KN, 1)
    control = top_k(null_MN, np.tile(right_KN, (SHUFFLES, 1)), 1)

    demo = SimulatedSession(
        encoder.tokens, participant, image_px=encoder.image_size, pool_seed=POOL_SEED, n_pool=N_POOL, seed=0, n_runs=1
    )
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "decoder.safetensors"
        write_state_dict(weights, {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()})
        pool = CandidatePool(
            tuple(f"scene-{i:03d}" for i in range(N_POOL)),
            demo.tokens_NTD.astype(np.float16),
            tuple(scene.describe() for scene in demo.scenes),
            write_images(Path(temporary) / "images", demo.images_NHW3),
        )
        betas_KV = scanned.betas_KV[train]
        bundle = Bundle(
            kind="mindeye2",
            subject="sub-demo",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            options=options,
            space=scanned.space,
            statistics=Statistics(betas_KV.mean(axis=0), betas_KV.std(axis=0), len(betas_KV)),
            calibration=calibration,
            pool=pool,
            decoder=weights,
            baseline=baseline_of(list(scanned.signal_R2V)),
            accuracy=accuracy,
        )
        shutil.rmtree(out, ignore_errors=True)
        return bundle.save(out), accuracy, control


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.recipes.demo", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=assets.BUNDLE)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    started = time.monotonic()
    bundle, accuracy, control = make_bundle(given.out, given.seed)
    print(f"held-out runs, top-1 of {len(bundle.pool)} candidates or so: {accuracy}; shuffled voxels: {control}")
    print(f"bundle {bundle.digest[:12]} in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
