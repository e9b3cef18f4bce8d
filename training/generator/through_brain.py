"""Pictures through the brain: ``python -m training.generator.through_brain``, figures of what the demo reconstructs.

Visits of the demo's participant are simulated and go through the live ingest code; the final betas of their trials
are decoded with the bundle that ships and made into pictures: once guided by the ranking, as the bundle samples them,
once by the decoder alone. Two visits: to scenes of the bundle's pool, and to scenes that are in no pool. A judge that
was trained on clean renderings names colours and shapes (``judge``).

Controls: pictures from the scenes' own tokens (the most that this generator can show), and pictures held against the
scene of another trial. Intervals are of 95 %: Wilson's for shares, a bootstrap over trials for means.

Axes: K trials, H and W pixels, V voxels, N tokens, D channels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mindsight import assets
from mindsight.accuracy import wilson_interval
from mindsight.decoding import Reconstructed, TrialDecoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.ingest import IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.simulator.demo import demo_participant, demo_visit
from mindsight.simulator.scenes import Scene
from mindsight.simulator.session import SimulatedSession
from mindsight.subjects.bundle.description import read_description
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.runs import ingest_run
from training.datasets.simulated import simulated_runs
from training.generator.figures import correlations
from training.generator.judge import Judge, own_accuracy, train_judge

POOL_VISIT_SEED, POOL_RUNS = 21, 4
NEW_POOL_SEED, NEW_SCENES, NEW_VISIT_SEED, NEW_RUNS = 31, 108, 41, 4
SHEET_TRIALS = 24
BOOTSTRAPS = 2000


@dataclass(frozen=True, eq=False)
class Trials:
    """Trials of a visit at one stage: betas, what each showed, and its scene's own tokens."""

    betas: tuple[TrialBeta, ...]
    scenes: tuple[Scene, ...]
    images_KHW3: NDArray[np.uint8]
    tokens_KND: NDArray[np.float32]


def final_trials(visit: SimulatedSession, bundle: Bundle, n_runs: int | None = None) -> Trials:
    """The visit, or its first runs, through ingest with the bundle's mask, options and statistics: final betas."""
    session = IngestSession(
        bundle.options, bundle.space, bundle.statistics, baseline=bundle.baseline, clock=time.perf_counter
    )
    betas: list[TrialBeta] = []
    shown: list[int] = []
    for run in simulated_runs(visit)[:n_runs]:
        finals = [beta for beta in ingest_run(session, run).betas if beta.stage == "final"]
        betas += finals
        shown += [int(run.trials.labels[beta.trial]) for beta in finals]
    scenes = tuple(visit.scenes[place] for place in shown)
    return Trials(tuple(betas), scenes, visit.images_NHW3[shown], visit.tokens_NTD[shown].astype(np.float32))


def reconstruct(decoder: TrialDecoder, trials: Trials, seed: int = 0) -> list[Reconstructed]:
    """Every trial as a session reconstructs it."""
    return [decoder.reconstruct(decoder.retrieve(beta.beta_V, beta.mean_V, beta.std_V), seed) for beta in trials.betas]


def agreement(
    images_KHW3: NDArray[np.uint8], shown_KHW3: NDArray[np.uint8], scenes: Sequence[Scene], judge: Judge
) -> dict[str, Any]:
    """Pixel correlation with the images shown, and what the judge says of the pictures; with n and intervals."""
    verdict = judge.judge(images_KHW3, scenes)
    return {
        "pixel_correlation": mean_of(np.diag(correlations(images_KHW3, shown_KHW3))),
        "both_backgrounds_right": share_of(verdict.backgrounds_B),
        "shape_kind_right": share_of(verdict.kinds_S),
    }


def mean_of(values_K: NDArray[np.float64]) -> dict[str, Any]:
    """Mean, n and interval."""
    drawn = np.random.default_rng(0).integers(len(values_K), size=(BOOTSTRAPS, len(values_K)))
    interval = np.quantile(values_K[drawn].mean(axis=1), (0.025, 0.975))
    return {"value": float(values_K.mean()), "n": len(values_K), "interval": interval.tolist()}


def share_of(right_K: NDArray[np.bool_]) -> dict[str, Any]:
    """Share, n and interval."""
    interval = wilson_interval(int(right_K.sum()), len(right_K))
    return {"value": float(right_K.mean()), "n": len(right_K), "interval": list(interval)}


def evaluate(bundle: Bundle, generator: DemoGenerator, trials: Trials, judge: Judge) -> tuple[dict[str, Any], Any]:
    """Figures of one visit, and its pictures (K, H, W, 3) by whether the ranking guides them."""
    other = np.roll(np.arange(len(trials.scenes)), 7)
    mean_ND = trials.tokens_KND.mean(0)
    figures: dict[str, Any] = {"trials": len(trials.scenes)}
    pictures = {}
    for name, prior in (("guided_by_the_ranking", bundle.sampling.in_pool_prior), ("by_the_decoder_alone", None)):
        sampled = replace(bundle, sampling=replace(bundle.sampling, in_pool_prior=prior))
        made = reconstruct(TrialDecoder(sampled, clock=time.perf_counter, generator=generator), trials)
        pictures[name] = np.stack([each.pixels for each in made])
        tokens_KND = np.concatenate([next(iter(each.features.values())) for each in made])
        figures[name] = {
            **agreement(pictures[name], trials.images_KHW3, trials.scenes, judge),
            "against_another_trials_scene": agreement(
                pictures[name], trials.images_KHW3[other], [trials.scenes[k] for k in other], judge
            ),
            "from_ranking": mean_of(np.array([each.from_ranking or 0.0 for each in made])),
            "token_error": float(np.square(tokens_KND - trials.tokens_KND).mean()),
        }
    clean = generator.generate(trials.tokens_KND, seed=0)
    figures["from_the_scenes_own_tokens"] = agreement(clean, trials.images_KHW3, trials.scenes, judge)
    figures["token_error_of_the_mean"] = float(np.square(mean_ND - trials.tokens_KND).mean())
    return figures, pictures


def sheet(trials: Trials, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The first trials in two bands: what was shown, and below it what was reconstructed, guided and not."""
    half = min(SHEET_TRIALS, len(trials.scenes)) // 2
    bands = [
        np.hstack(list(images[start : start + half]))
        for start in (0, half)
        for images in (trials.images_KHW3, *pictures)
    ]
    return np.vstack(bands)


def made_with(bundle: Bundle, generator: DemoGenerator) -> dict[str, Any]:
    """Digests of all that these figures depend on, and how the bundle samples."""
    assert bundle.folder is not None
    described = read_description(bundle.folder)
    tensors = {name: digest for name, digest in described.files.items() if name.endswith(".safetensors")}
    return {"bundle": tensors, "sampling": described.sampling, "generator": generator.digest}


def visits(encoder: DemoEncoder) -> dict[str, SimulatedSession]:
    """Scenes of the bundle's pool, and new ones."""
    size = encoder.image_size
    return {
        "scenes_of_the_pool": demo_visit(encoder.encode, size, seed=POOL_VISIT_SEED, n_runs=POOL_RUNS),
        "scenes_in_no_pool": SimulatedSession(
            encoder.encode,
            demo_participant(encoder.encode, size),
            image_px=size,
            pool_seed=NEW_POOL_SEED,
            n_pool=NEW_SCENES,
            seed=NEW_VISIT_SEED,
            n_runs=NEW_RUNS,
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=assets.BUNDLE)
    parser.add_argument("--generator", type=Path, default=assets.GENERATOR)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--sheet", type=Path, help="folder for images of scenes and their reconstructions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder, bundle = DemoEncoder.load(assets.ENCODER), Bundle.load(arguments.bundle)
    generator = DemoGenerator.load(arguments.generator)
    judge = train_judge(encoder.image_size)
    found: dict[str, Any] = {"judge_on_clean_renderings": own_accuracy(judge)}
    for name, visit in visits(encoder).items():
        trials = final_trials(visit, bundle)
        found[name], pictures = evaluate(bundle, generator, trials, judge)
        print(name, json.dumps(found[name]), flush=True)
        if arguments.sheet:
            arguments.sheet.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sheet(trials, list(pictures.values()))).save(arguments.sheet / f"{name}.png")
    found["made_with"] = made_with(bundle, generator)
    rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 4))
    arguments.out.write_text(json.dumps(rounded, indent=2) + "\n")


if __name__ == "__main__":
    main()
