"""Pretrain the decoder that a configuration describes, on many subjects: ``python -m training.pretraining CONFIG``.

Repeating the command continues a run that was stopped. ``torchrun --nproc-per-node N -m training.pretraining CONFIG``
trains on N cards.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout, load_mindeye2
from mindsight.errors import Conflict, MindsightError, ModelMismatch
from mindsight.files.durable import write_durably
from training.course.run import Course, run
from training.course.team import Team, joined
from training.pretraining.config import Config, read_config
from training.pretraining.data import Data, keep_split, make_material, make_split, open_data, read_split
from training.pretraining.export import export
from training.pretraining.train import Pretraining

MODEL, FIGURES = "mindeye2", "figures.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 0, or 1 after an error in one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="mindsight train pretrain", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("config", type=Path, help="TOML file; docs/pretraining.md lists its keys")
    given = parser.parse_args(arguments)
    try:
        with joined() as team:
            figures = train(read_config(given.config), team)
    except MindsightError as error:
        print(f"mindsight: {error} [{error.code}]", file=sys.stderr)
        return 1
    if figures is not None:
        print(summary(figures), end="")
    return 0


def train(config: Config, team: Team) -> dict[str, Any] | None:
    """Train, measure the test part, and write the model; None in processes that only train.

    Raises ModelMismatch, BadRequest, Conflict and StorageFull, of reading and writing; MindsightError
    (``training.diverged``).
    """
    if (config.out / MODEL).exists():
        raise Conflict(
            f"expected a run that is not finished, {config.out.name} holds its {MODEL} already: name another folder",
            code="training.finished",
        )
    data = open_data(config)
    model = make_model(config, data)
    if team.leads:  # one process reads all images
        split = make_split(config, data)
        material = make_material(config, data, split)
        config.out.mkdir(parents=True, exist_ok=True)
        keep_split(config.out, split)
    team.wait()
    if not team.leads:
        split = read_split(config.out)
        material = make_material(config, data, split)
    pretraining = Pretraining(config, model, material, team)
    described = config.curve | {"split": split["sha256"], "tokens": data.targets.space.encoder}
    course = Course(
        out=config.out,
        kind="pretraining",
        described=described,
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
    )
    run(pretraining, course, team, time.monotonic)
    if not team.leads:
        return None
    figures = {
        "config": config.curve,
        "split": split["sha256"],
        "subjects": [subject.subject for subject in data.dataset.subjects],
        "space": data.targets.space.to_json(),
        "test": pretraining.test_figures(),
    }
    write_durably(config.out / FIGURES, json.dumps(figures, indent=2).encode() + b"\n")
    described = {name: figures[name] for name in ("subjects", "space")}
    export(model, pretraining.whole(), config.out / MODEL, layout=asdict(model.layout), **described)
    return figures


def make_model(config: Config, data: Data) -> MindEye2:
    """The model at its first step: drawn from the seed, or with shared weights of ``start``.

    Raises ModelMismatch (``training.start``) for weights of other tokens, and what ``load_mindeye2`` raises.
    """
    table = config.model
    n_tokens, dim = data.targets.space.shape
    layout = Layout(
        voxels=tuple(subject.voxels for subject in data.dataset.subjects),
        hidden=table.hidden,
        tokens=n_tokens,
        dim=dim,
        n_blocks=table.n_blocks,
        lowlevel=config.lowlevel is not None,
        prior=PriorLayout(**table.prior.model_dump()) if table.prior else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = MindEye2(layout)
    if config.start is not None:
        _begin_with(model, load_mindeye2(config.start))
    return model


def _begin_with(model: MindEye2, start: MindEye2) -> None:
    own, given = model.layout, start.layout
    for name in ("hidden", "tokens", "dim", "n_blocks", "lowlevel", "prior"):
        if getattr(own, name) != getattr(given, name):
            raise ModelMismatch(
                f"expected weights to start from with {name} {getattr(own, name)}, as the configuration and the pool"
                f" have it, got {getattr(given, name)}: change [model], or choose other weights",
                code="training.start",
            )
    shared = {key: tensor for key, tensor in start.state_dict().items() if not key.startswith("ridge.")}
    model.load_state_dict(shared, strict=False)


def summary(figures: dict[str, Any]) -> str:
    """Retrieval of the test images, as a table."""
    lines = [f"{'':24}{'image of a brain':>28}{'brain of an image':>28}{'control':>28}"]
    for name, found in figures["test"].items():
        cells = [found[way] for way in ("images", "brains", "control")]
        texts = [f"{c['value']:.1%} ({c['interval'][0]:.1%} to {c['interval'][1]:.1%})" for c in cells]
        lines.append(f"{name:24}" + "".join(f"{text:>28}" for text in texts))
    first = figures["test"]["all"]["images"]
    lines.append(f"n = {first['n']} test images of all subjects; chance {first['chance']:.2%}; intervals of 95 %")
    return "\n".join(lines) + "\n"
