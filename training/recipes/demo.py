"""``python -m training.recipes.demo``: make the subject bundle that ships, by the steps a laboratory takes.

Only the participant and the scanner are simulated. The rest is the real way: an hour of scanning through the same
ingest code as live, single-trial betas, a mask of reliable voxels, fine-tuning of the pretrained shared-subject model,
the fit of held-out runs' reconstructions, temperatures and errors of decoding (each run as it came, at each stage, by a
model that was not fitted to it), a bundle.

Letters: K trials, V voxels, N candidates, M shuffled trials, T tokens, D channels.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mindsight import assets
from mindsight.accuracy import Accuracy, top_k
from mindsight.decoders.base import PriorOptions
from mindsight.decoders.mindeye2 import FoldedMindEye2, MindEye2, fold, load_mindeye2
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.decoding import z_scored
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.glm.normalise import Statistics
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.ingest.space import SubjectSpace
from mindsight.posterior.errors import DecodingErrors
from mindsight.preprocessing.quality.baseline import baseline_of
from mindsight.reconstruction_fit import FitMeter
from mindsight.retrieval import Calibration, CandidatePool, fit_stages, fit_temperature
from mindsight.retrieval.ranking import cosine_scores
from mindsight.simulator.demo import demo_participant, demo_visit
from mindsight.simulator.experiment import Design
from mindsight.simulator.session import SimulatedSession
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.decoder import Sampling
from mindsight.subjects.bundle.fit import FitCalibration
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.state_dict import write_state_dict
from training.calibration.fits import LeftOut, Reconstructor, calibrate_fit
from training.calibration.live import LeftOutScores, ScoredRun, Scores, by_stage, score_left_out
from training.calibration.runs import IngestedRun, LabelledRun, ingest_run, run_signal
from training.datasets.simulated import simulated_runs
from training.pretraining.mindeye import Config, finetune

HOUR = Design(trials_per_run=54, repeats_per_run=6)
HOUR_POOL_SEED, HOUR_N_POOL, HOUR_SEED = 200, 640, 11
N_RUNS, N_HELD_OUT = 14, 2
MIN_RELIABILITY = 0.3
SHUFFLES = 10
SAMPLING = Sampling(prior=PriorOptions(draws=32), in_pool_prior=0.5)  # the mean of 32 draws takes a tenth of a second
OPTIONS = IngestOptions(noise="ar1", normalise="run")


@dataclass(frozen=True, eq=False)
class Scanned:
    """One visit.

    runs, ingested : every run, and what became of it
    betas_KV : final betas of the trials
    scored : (K, V) betas of each stage, z-scored as in a session; NaN for trials without that stage
    run_K, shown_K : each trial's run, and the index of the scene that it showed
    signal_R2V : of each run, see ``measure_signal``
    """

    space: SubjectSpace
    runs: tuple[LabelledRun, ...]
    ingested: tuple[IngestedRun, ...]
    betas_KV: NDArray[np.float32]
    scored: Mapping[Stage, NDArray[np.float32]]
    run_K: NDArray[np.intp]
    shown_K: NDArray[np.intp]
    signal_R2V: NDArray[np.float32]

    def z_KV(self) -> NDArray[np.float32]:
        """(K, V) final betas, z-scored by those of each run."""
        z_KV = np.empty_like(self.betas_KV)
        for run in np.unique(self.run_K):
            rows = self.run_K == run
            betas = self.betas_KV[rows]
            z_KV[rows] = z_scored(betas, betas.mean(axis=0), betas.std(axis=0).clip(1e-6))
        return z_KV

    @property
    def is_train_K(self) -> NDArray[np.bool_]:
        """(K,) trials of all runs but the last ``N_HELD_OUT``."""
        return np.asarray(self.run_K <= N_RUNS - N_HELD_OUT)


def scan(visit: SimulatedSession) -> Scanned:
    """The whole visit through ingest, in every voxel of the brain."""
    session = IngestSession(OPTIONS, clock=time.perf_counter)
    runs = simulated_runs(visit)
    betas, all_ingested, run_K, shown, signals = [], [], [], [], []
    scored: dict[Stage, list[NDArray[np.float32]]] = {stage: [] for stage in STAGES}
    for run in runs:
        number = run.recorded.run
        ingested = ingest_run(session, run)
        of = {(beta.stage, beta.trial): beta for beta in ingested.betas}
        for final in (beta for beta in ingested.betas if beta.stage == "final"):
            betas.append(final.beta_V)
            for stage in STAGES:
                beta = of.get((stage, final.trial))
                scored[stage].append(
                    np.full_like(final.beta_V, np.nan)
                    if beta is None
                    else z_scored(beta.beta_V, beta.mean_V, beta.std_V)
                )
            run_K.append(number)
            shown.append(int(run.trials.labels[final.trial]))
        all_ingested.append(ingested)
        signals.append(run_signal(session, number, ingested))
        print(f"run {number} of {len(visit.plans)} scanned", flush=True)
    assert session.space is not None
    return Scanned(
        session.space,
        tuple(runs),
        tuple(all_ingested),
        np.stack(betas),
        {stage: np.stack(rows) for stage, rows in scored.items()},
        np.array(run_K),
        np.array(shown),
        np.stack(signals),
    )


def reliable(scanned: Scanned) -> NDArray[np.bool_]:
    """(V,) voxels that respond to each scene alike whenever it is shown.

    The measure is the correlation, over all scenes, between successive showings of a scene.
    """
    z_KV = scanned.z_KV()
    pairs = []
    for scene in np.unique(scanned.shown_K):
        rows = np.flatnonzero(scanned.shown_K == scene)
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
        ingested=tuple(replace(one, betas=[_narrow(beta, keep_V) for beta in one.betas]) for one in scanned.ingested),
        betas_KV=scanned.betas_KV[:, keep_V],
        scored={stage: scored_KV[:, keep_V] for stage, scored_KV in scanned.scored.items()},
        signal_R2V=scanned.signal_R2V[..., keep_V],
    )


def _narrow(beta: TrialBeta, keep_V: NDArray[np.bool_]) -> TrialBeta:
    error_V = None if beta.error_V is None else beta.error_V[keep_V]
    return replace(
        beta, beta_V=beta.beta_V[keep_V], error_V=error_V, mean_V=beta.mean_V[keep_V], std_V=beta.std_V[keep_V]
    )


def fit(scanned: Scanned, tokens_NTD: NDArray[np.float32], train: NDArray[np.bool_], seed: int) -> MindEye2:
    """The shared-subject model that ships, fine-tuned on the trials in ``train``."""
    tokens_KTD = torch.from_numpy(tokens_NTD[scanned.shown_K].astype(np.float32))
    pretrained = load_mindeye2(assets.MINDEYE2 / "mindeye2.safetensors")
    return finetune(pretrained, torch.from_numpy(scanned.z_KV()[train]), tokens_KTD[train], Config(), seed)


def left_out_models(scanned: Scanned, tokens_NTD: NDArray[np.float32], seed: int) -> dict[int, FoldedMindEye2]:
    """For each run the model of the runs outside its pair."""
    models: dict[int, FoldedMindEye2] = {}
    for first in range(1, N_RUNS + 1, N_HELD_OUT):
        pair = range(first, first + N_HELD_OUT)
        models |= dict.fromkeys(pair, fold(fit(scanned, tokens_NTD, ~np.isin(scanned.run_K, pair), seed)))
    return models


def decoding_errors(
    scanned: Scanned, models: Mapping[int, FoldedMindEye2], tokens_NTD: NDArray[np.float32]
) -> DecodingErrors:
    """Of all trials at each stage, each run decoded by its model."""
    decoded: dict[str, NDArray[np.float32]] = {}
    for run, folded in models.items():
        left_out = scanned.run_K == run
        for stage, scored_KV in scanned.scored.items():
            features = folded.tokens(torch.from_numpy(scored_KV[left_out]), lowlevel=False).backbone.numpy()
            decoded.setdefault(stage, np.empty((len(left_out), *features.shape[1:]), np.float32))[left_out] = features
    return DecodingErrors.learn(decoded, tokens_NTD[scanned.shown_K], scanned.shown_K)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """On the held-out runs, among the scenes that were shown in them; ``control`` is the accuracy of shuffled betas."""

    calibration: Calibration
    accuracy: Accuracy
    control: Accuracy


def held_out(
    model: MindEye2,
    models: Mapping[int, FoldedMindEye2],
    scanned: Scanned,
    tokens_NTD: NDArray[np.float32],
    seed: int,
) -> HeldOut:
    """The confidence of each stage is fitted to every run of the visit, as it came and by its model in ``models``."""
    test = ~scanned.is_train_K
    candidates = np.unique(scanned.shown_K[test])
    right_KN = scanned.shown_K[test][:, None] == candidates[None]
    scores, z_KV = _scores(fold(model), candidates, tokens_NTD), scanned.z_KV()[test]
    shuffled_MV = np.random.default_rng(seed).permuted(np.tile(z_KV, (SHUFFLES, 1)), axis=1)
    scores_KN, null_MN = scores(z_KV), scores(shuffled_MV)
    live = by_stage(live_runs(scanned, models, tokens_NTD, seed, len(candidates)))
    return HeldOut(
        fit_stages(fit_temperature(scores_KN, right_KN, null_MN), live, null_MN),
        top_k(scores_KN, right_KN, 1),
        top_k(null_MN, np.tile(right_KN, (SHUFFLES, 1)), 1),
    )


def live_runs(
    scanned: Scanned, models: Mapping[int, FoldedMindEye2], tokens_NTD: NDArray[np.float32], seed: int, n: int
) -> list[ScoredRun]:
    """Every run as it came, decoded by its model among ``n`` scenes: those that it showed, and others of the visit."""
    rng = np.random.default_rng(seed)
    left_out = []
    for run, folded in models.items():
        shown = np.unique(scanned.shown_K[scanned.run_K == run])
        others = rng.permutation(np.setdiff1d(np.arange(len(tokens_NTD)), shown))
        candidates = np.concatenate([shown, others])[:n]
        index_of = {str(scene): index for index, scene in enumerate(candidates)}
        left_out.append(LeftOutScores(index_of, _scores(folded, candidates, tokens_NTD)))
    return score_left_out(scanned.runs, scanned.ingested, left_out)


def _scores(folded: FoldedMindEye2, candidates: NDArray[np.intp], tokens_NTD: NDArray[np.float32]) -> Scores:
    """Cosines with these scenes."""
    pool = CandidatePool(tuple(map(str, candidates)), tokens_NTD[candidates].astype(np.float32))
    return lambda z_KV: cosine_scores(folded.tokens(torch.from_numpy(z_KV)).retrieval.numpy(), pool)


def held_out_fit(bundle: Bundle, hour: SimulatedSession, encoder: DemoEncoder) -> FitCalibration | None:
    """The fit of reconstructions of the held-out runs by the generator that ships."""
    generator = DemoGenerator.load(assets.GENERATOR)
    runs = simulated_runs(hour)[-N_HELD_OUT:]
    held = LeftOut([run.recorded.run for run in runs], bundle.decoder)
    return calibrate_fit(bundle, runs, [held], Reconstructor(generator, FitMeter(encoder, generator)))


def make_pool(encoder: DemoEncoder, images: Path) -> CandidatePool:
    """The scenes that the demo shows, none of which the subject was calibrated on; their PNGs are written to
    ``images``."""
    visit = demo_visit(encoder.encode, encoder.image_size, seed=0, n_runs=1)
    return CandidatePool(
        tuple(f"scene-{i:03d}" for i in range(len(visit.scenes))),
        visit.tokens_NTD.astype(np.float16),
        tuple(scene.describe() for scene in visit.scenes),
        write_images(images, visit.images_NHW3),
    )


def write_images(folder: Path, images_NHW3: NDArray[np.uint8]) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"scene-{i:03d}.png" for i in range(len(images_NHW3)))
    for path, image in zip(paths, images_NHW3, strict=True):
        Image.fromarray(image).save(path, optimize=True)
    return paths


def make_bundle(out: Path, seed: int = 0) -> tuple[Bundle, Accuracy, Accuracy]:
    """The bundle, its accuracy on the held-out runs, and that of shuffled betas. Replaces the folder ``out``."""
    encoder = DemoEncoder.load(assets.ENCODER)
    hour = SimulatedSession(
        encoder.encode,
        demo_participant(encoder.encode, encoder.image_size),
        image_px=encoder.image_size,
        pool_seed=HOUR_POOL_SEED,
        n_pool=HOUR_N_POOL,
        seed=HOUR_SEED,
        n_runs=N_RUNS,
        design=HOUR,
    )
    everywhere = scan(hour)
    scanned = narrow(everywhere, reliable(everywhere))
    print(f"{scanned.space.n_voxels} reliable voxels of {everywhere.space.n_voxels}", flush=True)
    model = fit(scanned, hour.tokens_NTD, scanned.is_train_K, seed)
    models = left_out_models(scanned, hour.tokens_NTD, seed)
    found = held_out(model, models, scanned, hour.tokens_NTD, seed)
    betas_KV = scanned.betas_KV[scanned.is_train_K]
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "decoder.safetensors"
        write_state_dict(weights, {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()})
        bundle = Bundle(
            subject="sub-demo",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            options=OPTIONS,
            space=scanned.space,
            statistics=Statistics(betas_KV.mean(axis=0), betas_KV.std(axis=0), len(betas_KV)),
            calibration=found.calibration,
            pool=make_pool(encoder, Path(temporary) / "images"),
            decoder=MindEye2Weights(weights),
            baseline=baseline_of(list(scanned.signal_R2V)),
            accuracy=found.accuracy,
            sampling=SAMPLING,
            errors=decoding_errors(scanned, models, hour.tokens_NTD),
        )
        bundle = replace(bundle, fit=held_out_fit(bundle, hour, encoder))
        shutil.rmtree(out, ignore_errors=True)
        return bundle.save(out), found.accuracy, found.control


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.recipes.demo", description="make the subject bundle that ships"
    )
    parser.add_argument("--out", type=Path, default=assets.BUNDLE)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    started = time.monotonic()
    bundle, accuracy, control = make_bundle(given.out, given.seed)
    print(f"held-out runs, top-1: {accuracy}; shuffled voxels: {control}")
    print(f"bundle {bundle.digest[:12]} in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
