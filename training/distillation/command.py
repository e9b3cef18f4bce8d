"""Distil the student that a configuration describes, and measure it: ``python -m training.distillation CONFIG``.

Repeating the command continues a run that was stopped. ``torchrun --nproc-per-node N -m training.distillation CONFIG``
trains on N cards.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mindsight import assets
from mindsight.encoders.base import Encoder
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import Conflict, MindsightError, ModelMismatch
from mindsight.features import FeatureSpace
from mindsight.files.durable import write_durably
from mindsight.generators.registry import load_encoder_of
from mindsight.generators.unclip.sdxl.folder import TOWER, Read, read_folder
from mindsight.generators.unclip.sdxl.loading import built
from mindsight.generators.unclip.sdxl.other_unet import write_with_unet
from mindsight.weights.device import Placement
from training.course.team import Team, joined
from training.distillation.card import card
from training.distillation.config import Config, read_config
from training.distillation.examples import Examples
from training.distillation.fidelity import Fidelity, Sampler, Shown, as_json, measure, table
from training.distillation.networks import make_networks
from training.distillation.train import Training, run

STUDENT, FIDELITY, CARD = "generator", "fidelity.json", "README.md"
STUDENT_STEPS = (4, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 after an error in one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="mindsight train distil", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("config", type=Path, help="TOML file; docs/distillation.md lists its keys")
    given = parser.parse_args(arguments)
    try:
        with joined() as team:
            fidelity = distil(read_config(given.config), team)
    except MindsightError as error:
        print(f"mindsight: {error} [{error.code}]", file=sys.stderr)
        return 1
    if fidelity is not None:
        print(table(fidelity), end="")
    return 0


def distil(config: Config, team: Team) -> Fidelity | None:
    """Train, write the student's folder with its card, and measure it; None in processes that only train.

    Raises ModelMismatch, BadRequest, Conflict and StorageFull, of reading and writing; MindsightError
    (``training.diverged``).
    """
    if (config.out / STUDENT / CARD).exists():  # what is written last
        raise Conflict(
            f"expected a run that is not finished, {config.out.name} holds its {STUDENT} already: name another folder",
            code="training.finished",
        )
    read = read_folder(config.teacher)
    if read.space is None:
        raise ModelMismatch(
            f"expected a teacher that records the space of its tokens, {config.teacher.name} does not: convert a"
            " checkpoint that carries its image tower",
            code="generator.space",
        )
    _require_encoder(config, read.space)
    examples = Examples.open(config.pool, config.images, read.space, read.size_px, config.held_out)
    networks, teacher = make_networks(config, read, team.device)
    described = config.curve | {"teacher": read.digest, "pool": examples.pool.digest}
    run(Training(config, networks, examples, teacher, team), config.out, described, time.monotonic)
    if not team.leads:
        return None
    if not (config.out / STUDENT).exists():  # else an earlier run was stopped while it measured
        weights = networks.merged(read.unet)
        write_with_unet(
            config.teacher, config.out / STUDENT, weights, {"preset": "distilled"}, distilled_from=read.digest
        )
        del weights
    del networks, teacher  # their memory is needed again
    return _measured(config, read, examples, team.device)


def _require_encoder(config: Config, space: FeatureSpace) -> None:
    """Before hours of training. Raises ModelMismatch (``generator.encoder``)."""
    if not (config.teacher / TOWER).is_file() and not DemoEncoder.load(assets.ENCODER).space.matches(space):
        raise ModelMismatch(
            f"expected the image tower of {space.name} {space.encoder[:12]} in {config.teacher.name}, to measure the"
            " student with, got none: convert the checkpoint again, with its tower",
            code="generator.encoder",
        )


def _encoder(config: Config, device: str) -> Encoder:
    """That of the teacher's tokens: its image tower, or the demo's."""
    if (config.teacher / TOWER).is_file():
        return load_encoder_of(config.teacher, Placement(device))
    return DemoEncoder.load(assets.ENCODER)


def _measured(config: Config, read: Read, examples: Examples, device: str) -> Fidelity:
    dtype: torch.dtype = getattr(torch, config.precision)
    held_out = range(examples.n_trained, len(examples.pool))
    images, tokens = examples.read(held_out), examples.tokens(held_out)
    shown = Shown(encoder=_encoder(config, device), images_KHW3=images, tokens_KND=tokens)
    teacher = built(read, dtype, device)
    student = built(read_folder(config.out / STUDENT), dtype, device)
    samplers = [
        Sampler(title="teacher, reference", unclip=teacher, preset="reference", steps=38),
        Sampler(title="teacher, fast", unclip=teacher, preset="fast", steps=8),
        *(Sampler(title=f"teacher, {n} steps", unclip=teacher, preset="distilled", steps=n) for n in STUDENT_STEPS),
        *(Sampler(title=f"student, {n} steps", unclip=student, preset="distilled", steps=n) for n in STUDENT_STEPS),
    ]
    fidelity = measure(samplers, shown)
    figures: dict[str, Any] = {"config": config.curve, "teacher": read.digest, **as_json(fidelity)}
    write_durably(config.out / FIDELITY, json.dumps(figures, indent=2).encode() + b"\n")
    write_durably(config.out / STUDENT / CARD, card(config, read.digest, device, table(fidelity)).encode())
    return fidelity
