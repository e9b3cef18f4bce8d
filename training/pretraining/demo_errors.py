"""``python -m training.pretraining.demo_errors --out FILE``: measure the errors of decoded latents.

Simulated participants are calibrated on the first half of a visit; the errors are those of the second half. None of
them took part in pretraining, and none is the demo's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mindsight import assets
from mindsight.decoders.mindeye2 import MindEye2, load_mindeye2
from mindsight.encoders.demo import DemoEncoder
from training.pretraining.demo_decoder import scored_by, simulate_visit
from training.pretraining.errors import LatentErrors
from training.pretraining.mindeye import Pairs, Seen, latents, predict_rest

_FIRST_PERSON = 3_000


def left_out_pairs(model: MindEye2, encoder: DemoEncoder, participants: int, runs: int) -> Pairs:
    """Decoded latents of trials to which no layer was fitted, and the tokens of what they showed."""
    parts = []
    for person in range(_FIRST_PERSON, _FIRST_PERSON + participants):
        visit = simulate_visit(encoder, person, 0, runs)
        n = len(visit.betas_KV)
        seen = Seen(scored_by(visit.betas_KV, visit.betas_KV), visit.tokens_KND)
        parts.append(predict_rest(model, seen, torch.arange(n), n // 2))
    return Pairs(torch.cat([part.latent_KH for part in parts]), torch.cat([part.tokens_KND for part in parts]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--participants", type=int, default=6)
    parser.add_argument("--runs", type=int, default=44, help="runs of 30 trials per participant")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load_mindeye2(assets.MINDEYE2 / "mindeye2.safetensors").requires_grad_(False)
    pairs = left_out_pairs(model, DemoEncoder.load(assets.ENCODER), arguments.participants, arguments.runs)
    LatentErrors.learn(pairs.latent_KH, latents(model, pairs.tokens_KND)).save(arguments.out)


if __name__ == "__main__":
    main()
