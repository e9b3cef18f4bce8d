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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout, load_mindeye2
from mindsight.errors import Conflict, MindsightError, ModelMismatch, NotFound
from mindsight.files.digest import sha256_of_file
from mindsight.files.durable import write_durably
from mindsight.files.manifest import MANIFEST
from mindsight.weights.conversion import digest_of_files
from mindsight.weights.state_dict import source_files
from training.course.checkpoint import newest_checkpoint
from training.course.run import CHECKPOINTS, Course, run
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
    parser.add_argument("--export", type=Path, help="folder for the model as the newest checkpoint has it")
    given = parser.parse_args(arguments)
    try:
        with joined() as team:
            config = read_config(given.config)
            if given.export is not None:
                return export_checkpoint(config, given.export, team)
            figures = train(config, team)
    except MindsightError as error:
        print(f"mindsight: {error} [{error.code}]", file=sys.stderr)
        return 1
    if figures is not None:
        print(summary(figures), end="")
    return 0


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run before its first step, or before it continues."""

    data: Data
    pretraining: Pretraining
    course: Course

    def write_model(self, out: Path) -> None:
        """The model under the released layout, as it is now."""
        subjects = [subject.subject for subject in self.data.dataset.subjects]
        model, space = self.pretraining.model, self.data.targets.space.to_json()
        export(model, self.pretraining.whole(), out, layout=asdict(model.layout), subjects=subjects, space=space)


def prepare(config: Config, team: Team) -> Prepared:
    """Read and check everything. Raises ModelMismatch, BadRequest, and Conflict for data of another run."""
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
    start = None if config.start is None else _digest(config.start)
    course = Course(
        out=config.out,
        kind="pretraining",
        described=config.curve | {"split": split["sha256"], "tokens": data.targets.digest, "start": start},
        steps=config.steps,
        checkpoint_every=config.checkpoint_every,
    )
    return Prepared(data, Pretraining(config, model, material, team), course)


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
    prepared = prepare(config, team)
    run(prepared.pretraining, prepared.course, team, time.monotonic)
    if not team.leads:
        return None
    figures = {
        "config": config.curve,
        "split": prepared.course.described["split"],
        "subjects": [subject.subject for subject in prepared.data.dataset.subjects],
        "space": prepared.data.targets.space.to_json(),
        "test": prepared.pretraining.test_figures(),
    }
    write_durably(config.out / FIGURES, json.dumps(figures, indent=2).encode() + b"\n")
    prepared.write_model(config.out / MODEL)
    return figures


def export_checkpoint(config: Config, out: Path, team: Team) -> int:
    """Write the model as the run's newest checkpoint has it. Raises NotFound (``checkpoint.missing``)."""
    prepared = prepare(config, team)
    found = newest_checkpoint(config.out / CHECKPOINTS, prepared.course.kind, prepared.course.described)
    if found is None:
        raise NotFound(
            f"expected a checkpoint in {config.out.name}, got none so far: wait for step {config.checkpoint_every}",
            code="checkpoint.missing",
        )
    prepared.pretraining.restore(found.step, found.state)
    prepared.write_model(out)
    print(f"step {found.step:,} of {config.steps:,}")
    return 0


def _digest(start: Path) -> str:
    """Of weights; of a folder with a manifest, which has the digests of all files, that of the manifest."""
    if (start / MANIFEST).is_file():
        return sha256_of_file(start / MANIFEST)
    return digest_of_files(source_files(start))


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
