"""``python -m training.pretraining.demo_decoder --out FOLDER``: pretrain the decoder of the demo's participants.

Simulated participants look at random scenes; betas come from the same streaming GLM as in a session. It is evaluated on
a participant and on images that were not in pretraining. Knows nothing of the service.

Axes: K trials, V voxels, N tokens, D channels.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mindsight.accuracy import Accuracy, top_k
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.mindeye2 import MindEye2, fold, load_mindeye2
from mindsight.decoding import z_scored
from mindsight.encoders.demo import DemoEncoder
from mindsight.simulator.ceiling import final_betas, simulate_series
from mindsight.simulator.experiment import Design, plan_runs
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import Noise
from mindsight.simulator.scenes import random_scenes, render_batch
from mindsight.weights.artefact import read_artefact, write_artefact
from training.pretraining.mindeye import Config, Seen, finetune, pretrain

POOL = 100
_POPULATION_SEED, _POPULATION = 999, 500
_FIRST_PERSON, _NEW_PERSON = 1_000, 2_000
_RUNS_TO_TEST = 12
_VOXELS = 1500
_GRADIENT_STEPS = 100


@dataclass(frozen=True, slots=True)
class Visit:
    """One participant's trials: final betas (not z-scored), tokens of the images seen, and the index of each image."""

    betas_KV: Tensor
    tokens_KND: Tensor
    image_K: Tensor

    def first_showings(self) -> Tensor:
        """Trials in which an image was shown for the first time."""
        return torch.from_numpy(np.sort(np.unique(self.image_K.numpy(), return_index=True)[1]))


def scene_tokens(encoder: DemoEncoder, seed: int, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """(n, N, D) tokens of random scenes."""
    return encoder.encode(render_batch(random_scenes(np.random.default_rng(seed), n), encoder.image_size))


def simulate_visit(encoder: DemoEncoder, person: int, visit: int, n_runs: int) -> Visit:
    """``n_runs`` runs of 30 trials with random scenes; the numbers ``person`` and ``visit`` seed everything."""
    design = Design()
    n_scenes = n_runs * (design.trials_per_run - design.repeats_per_run)
    tokens_NTD = scene_tokens(encoder, 10_000 + 100 * person + visit, n_scenes)
    participant = Participant(person, scene_tokens(encoder, _POPULATION_SEED, _POPULATION), _VOXELS)
    responses_NV = participant.responses(tokens_NTD)
    rng = np.random.default_rng([person, visit, 11])
    plans = plan_runs(design, n_runs, n_scenes, seed=100 * person + visit)
    betas = [final_betas(plan, simulate_series(plan, responses_NV, Noise(), rng)) for plan in plans]
    shown = [each.candidate for plan in plans for each in plan.shown]
    return Visit(
        torch.from_numpy(np.concatenate(betas).astype(np.float32)),
        torch.from_numpy(tokens_NTD[shown]),
        torch.tensor(shown),
    )


def scored_by(betas_KV: Tensor, by_KV: Tensor) -> Tensor:
    """Betas z-scored by the mean and deviation of another set of trials, voxel by voxel."""
    mean_V, std_V = by_KV.mean(0), by_KV.std(0)
    return torch.from_numpy(z_scored(betas_KV.numpy(), mean_V.numpy(), std_V.numpy()))


def retrieval(predicted_KND: Tensor, tokens_KND: Tensor, centred: bool = False) -> Accuracy:
    """Top-1 accuracy of each trial's image among ``POOL`` different held-out ones, by cosine over all tokens.

    centred : subtract the pool's mean from both sides first
    """
    total = Accuracy(0, 0, 1 / POOL)
    for start in range(0, len(predicted_KND) // POOL * POOL, POOL):
        found, sought = (each[start : start + POOL].flatten(1) for each in (predicted_KND, tokens_KND))
        if centred:
            found, sought = found - sought.mean(0), sought - sought.mean(0)
        scores_KN = F.normalize(found, dim=1) @ F.normalize(sought, dim=1).T
        total += top_k(scores_KN.numpy(), np.eye(POOL, dtype=np.bool_), 1)
    return total


def closeness(predicted_KND: Tensor, tokens_KND: Tensor) -> dict[str, float]:
    """Mean squared error per number of the predicted tokens, and their cosine about the mean over images."""
    mean_ND = tokens_KND.mean(0)
    cosine_K = F.cosine_similarity((predicted_KND - mean_ND).flatten(1), (tokens_KND - mean_ND).flatten(1))
    mse = F.mse_loss(predicted_KND, tokens_KND)
    return {"mse": round(float(mse), 4), "cosine": round(float(cosine_K.mean()), 4)}


@torch.inference_mode()
def evaluate(model: MindEye2, betas_KV: Tensor, tokens_KND: Tensor) -> dict[str, object]:
    """Held-out figures of a participant's decoder: retrieval head, retrieval by the prior, closeness of its samples."""
    decoder = fold(model)
    tokens = decoder.tokens(betas_KV)
    assert decoder.prior is not None
    draws = [decoder.prior.sample(tokens.backbone, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    mean = torch.stack(draws).mean(0)
    return {
        "top1_retrieval_head": str(retrieval(tokens.retrieval, tokens_KND)),
        "top1_prior": str(retrieval(draws[0], tokens_KND, centred=True)),
        "top1_prior_mean_of_8": str(retrieval(mean, tokens_KND, centred=True)),
        "backbone": closeness(tokens.backbone, tokens_KND),
        "prior": closeness(draws[0], tokens_KND),
        "prior_mean_of_8": closeness(mean, tokens_KND),
    }


def figures(model: MindEye2, encoder: DemoEncoder, config: Config, trials: int, seed: int) -> dict[str, object]:
    """Calibrate a new participant on ``trials`` trials; compare with linear ridge and with shuffled pairs."""
    known = simulate_visit(encoder, _NEW_PERSON, 0, -(-trials // 30))
    test = simulate_visit(encoder, _NEW_PERSON, 1, _RUNS_TO_TEST)
    raw_KV, shown_KND = known.betas_KV[:trials], known.tokens_KND[:trials]
    new = test.first_showings()
    betas_KV, tokens_KND = scored_by(raw_KV, raw_KV), test.tokens_KND[new]
    test_KV = scored_by(test.betas_KV[new], raw_KV)
    linear = torch.from_numpy(LinearDecoder.fit(betas_KV.numpy(), shown_KND.numpy()).predict(test_KV.numpy()))
    shuffled = shown_KND[torch.randperm(trials, generator=torch.Generator().manual_seed(seed))]
    with_gradient = replace(config, fine_tuning=replace(config.fine_tuning, steps=_GRADIENT_STEPS))
    started_s = time.process_time()
    fitted = finetune(model, betas_KV, shown_KND, config, seed)
    spent_s = time.process_time() - started_s
    return {
        "trials": trials,
        "mindeye2": evaluate(fitted, test_KV, tokens_KND),
        f"mindeye2_after_{_GRADIENT_STEPS}_gradient_steps": evaluate(
            finetune(model, betas_KV, shown_KND, with_gradient, seed), test_KV, tokens_KND
        ),
        "mindeye2_shuffled_pairs": evaluate(finetune(model, betas_KV, shuffled, config, seed), test_KV, tokens_KND),
        "linear": {
            "top1": str(retrieval(linear, tokens_KND)),
            "top1_centred": str(retrieval(linear, tokens_KND, centred=True)),
            "tokens": closeness(linear, tokens_KND),
        },
        "fitting_cpu_s": round(spent_s, 2),
    }


def shared_weights(model: MindEye2) -> dict[str, Tensor]:
    """All weights but the rotary frequencies, which are recomputed and would lose precision as half floats."""
    return {key: tensor for key, tensor in model.state_dict().items() if "rotary_emb" not in key}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the image encoder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the shared decoder to")
    parser.add_argument("--participants", type=int, default=8)
    parser.add_argument("--runs", type=int, default=80, help="runs of 30 trials per participant")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--trials", type=int, nargs="*", default=[300, 720], help="calibration sizes to evaluate")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder, config = DemoEncoder.load(arguments.encoder), Config()
    config = replace(config, pretraining=replace(config.pretraining, steps=arguments.steps))
    visits = [simulate_visit(encoder, _FIRST_PERSON + i, 0, arguments.runs) for i in range(arguments.participants)]
    model = pretrain([Seen(scored_by(s.betas_KV, s.betas_KV), s.tokens_KND) for s in visits], config, arguments.seed)
    described = {
        "command": f"python -m training.pretraining.demo_decoder --participants {arguments.participants} "
        f"--runs {arguments.runs} --steps {arguments.steps} --seed {arguments.seed}",
        "encoder": encoder.digest,
        "hidden": config.hidden,
        "tokens": [encoder.n_tokens, encoder.token_dim],
    }
    write_artefact(arguments.out, "mindeye2", described, shared_weights(model))
    shipped = load_mindeye2(read_artefact(arguments.out, "mindeye2").tensors)
    found = [figures(shipped, encoder, config, trials, arguments.seed) for trials in arguments.trials]
    (arguments.out / "figures.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
