"""Gradient steps on one subject's trials: all weights, the reference's losses, stopped early, the same after a kill.

From a closed form this is fine-tuning; from random weights it is MindEye2 trained from scratch. Knows nothing of runs
or bundles. Letters: K trials, V voxels, N tokens, D channels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mindsight.decoders.mindeye2 import MindEye2, losses
from mindsight.files.durable import write_durably
from mindsight.weights.tensors import pack_tensors, read_metadata, read_tensors
from training.course.optimiser import AdamW
from training.course.schedule import one_cycle
from training.pretraining.batches import Part
from training.pretraining.objective import Draws, part_losses
from training.pretraining.train import DECAY, trained_weights

MIXED_SHARE, WARM_UP = 0.33, 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """steps, batch : of trials, no two of which show the same image; learning_rate : peak of one cycle
    look_every : steps between two looks at the images that decide when to stop
    patience : looks without a better one after which it stops
    """

    steps: int = 300
    batch: int = 64
    learning_rate: float = 1e-4
    look_every: int = 20
    patience: int = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Material:
    """z_KV : z-scored betas; image_K : what each showed; tokens_KND : its tokens"""

    z_KV: NDArray[np.float32]
    image_K: NDArray[np.intp]
    tokens_KND: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Look:
    """After ``step`` steps: ``loss``, of images that are not trained on."""

    step: int
    loss: float


class GradientSteps:
    """One training of a model, which it changes. ``looks`` holds every look so far, the first before any step.

    judge : the loss of the present model on images that it is not trained on; it decides when to stop
    file : (.safetensors) from which a training that was interrupted goes on; None: it starts from ``model``
    until : make as many steps and keep their weights, whatever ``judge`` finds; None: stop early, keep the best
    """

    def __init__(
        self,
        model: MindEye2,
        material: Material,
        recipe: Recipe,
        judge: Callable[[MindEye2], float],
        file: Path | None = None,
        until: int | None = None,
    ) -> None:
        self.model, self._material, self._recipe, self._judge, self._file = model, material, recipe, judge, file
        self._until = until
        self._trained = trained_weights(model, ())
        decayed = {name for name in self._trained if name.startswith("ridge.") or "bias" not in name}
        self._optimiser = AdamW(self._trained, decayed, DECAY)
        self._mixed = int(MIXED_SHARE * recipe.steps)
        self._temperatures = losses.temperatures(max(1, recipe.steps - self._mixed)).tolist()
        self._best: dict[str, Tensor] = {}
        self.step, self.looks = 0, list[Look]()
        if file is not None and file.is_file():
            self._restore(file)

    def __iter__(self) -> Iterator[Look]:
        """Train; each look as it is made. When it ends, the model has the weights of the best look."""
        while not self._over():
            if self.step % self._recipe.look_every == 0 and (not self.looks or self.looks[-1].step != self.step):
                yield self._look()
                continue
            self._advance()
        if not self.looks or self.looks[-1].step != self.step:
            yield self._look()
        if self._until is None:
            with torch.no_grad():
                for name, weight in self._trained.items():
                    weight.copy_(self._best[name])
        self.model.eval()

    @property
    def best(self) -> Look:
        return min(self.looks, key=lambda look: look.loss)

    def _over(self) -> bool:
        if self._until is not None:
            return self.step >= self._until
        return self.step >= self._recipe.steps or bool(
            self.looks and len(self.looks) - 1 - self.looks.index(self.best) >= self._recipe.patience
        )

    def _look(self) -> Look:
        self.model.eval()
        self.looks.append(Look(self.step, self._judge(self.model)))
        if self.looks[-1] == self.best:
            self._best = {name: weight.detach().clone() for name, weight in self._trained.items()}
        self._keep()
        return self.looks[-1]

    def _advance(self) -> None:
        self.model.train()
        part, recipe = self._part(), self._recipe
        mixed = self.step < self._mixed
        temperature = self._temperatures[max(0, self.step - self._mixed)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng([recipe.seed, self.step, 56]).integers(1 << 32)))  # of dropout
            draws = Draws.of(part, recipe.seed, mixed, "cpu")
            loss = part_losses(self.model, part, draws, temperature, torch.float32)["loss"]
        for weight in self._trained.values():
            weight.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step(one_cycle(recipe.learning_rate, self.step, recipe.steps, WARM_UP))
        self.step += 1

    def _part(self) -> Part:
        """Trials of different images, drawn anew for each step."""
        rng = np.random.default_rng([self._recipe.seed, self.step, 55])
        order_K = rng.permutation(len(self._material.z_KV))
        _, first = np.unique(self._material.image_K[order_K], return_index=True)
        rows = order_K[np.sort(first)[: self._recipe.batch]]
        images = tuple(map(str, self._material.image_K[rows]))
        betas = torch.from_numpy(np.ascontiguousarray(self._material.z_KV[rows]))
        tokens_BND = torch.from_numpy(np.asarray(self._material.tokens_KND[rows], np.float32))
        return Part(self.step, (betas,), images, tokens_BND, None)

    def _keep(self) -> None:
        if self._file is None:
            return
        held = self._optimiser.state() if self.step else {f"trained.{n}": w for n, w in self._trained.items()}
        held = held | {f"best.{name}": weight for name, weight in self._best.items()}
        tensors = {name: value.detach().numpy() for name, value in held.items()}
        looks = json.dumps([[look.step, look.loss] for look in self.looks])
        write_durably(self._file, pack_tensors(tensors, {"looks": looks}))

    def _restore(self, file: Path) -> None:
        held = {name: torch.from_numpy(value) for name, value in read_tensors(file).items()}
        self.looks = [Look(int(step), float(loss)) for step, loss in json.loads(read_metadata(file)["looks"])]
        self.step = self.looks[-1].step
        self._best = {name.removeprefix("best."): value for name, value in held.items() if name.startswith("best.")}
        if self.step:
            self._optimiser.restore(self.step, held)


def random_model(like: MindEye2, n_voxels: int, seed: int) -> MindEye2:
    """The same architecture with random weights, for one subject; without a prior."""
    from dataclasses import replace

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MindEye2(replace(like.layout, voxels=(n_voxels,), prior=None))


def warm_model(like: MindEye2, weights_VH: NDArray[np.float32], bias_H: NDArray[np.float32]) -> MindEye2:
    """A copy of a shared model with the ridge layer of one subject."""
    from dataclasses import replace

    model = MindEye2(replace(like.layout, voxels=(len(weights_VH),)))
    state = {key: value.clone() for key, value in like.state_dict().items() if not key.startswith("ridge.")}
    state["ridge.linears.0.weight"] = torch.from_numpy(np.ascontiguousarray(weights_VH.T))
    state["ridge.linears.0.bias"] = torch.from_numpy(np.asarray(bias_H, np.float32))
    model.load_state_dict(state)
    return model.eval()


@torch.inference_mode()
def retrieval_features(model: MindEye2, z_KV: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, N * D) that are compared with image tokens."""
    batches = [torch.from_numpy(np.ascontiguousarray(z_KV[i : i + 64])) for i in range(0, len(z_KV), 64)]
    features: NDArray[np.float32] = torch.cat([model.tokens(each).retrieval.flatten(1) for each in batches]).numpy()
    return features


def finite(loss: float) -> float:
    """The loss, or infinity where training has diverged: such a look is never the best."""
    return loss if math.isfinite(loss) else math.inf
