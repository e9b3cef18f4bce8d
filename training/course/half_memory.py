"""AdamW in half the memory: 8 bytes a weight with its gradient, in place of 16, by the same steps but for rounding.

A large weight is kept as two halves of 16 bits, which together are the float32 number, to the bit: the upper one is the
nearest bfloat16, with which networks compute, and a step changes both. The optimiser's averages are kept in 8 bits,
each block of 256 with its own scale (Dettmers et al. 2022, arXiv 2110.02861, dynamic tree quantisation; the second
average as its root). Gradients are bfloat16. Knows nothing of what is trained. Letters: E numbers of a weight, B
blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from training.course.optimiser import BETAS, EPSILON

LARGE = 4096  # numbers from which a weight is halved; the others are few, and gains and biases want their precision
_BLOCK = 256
_PIECE = _BLOCK << 16  # numbers that are worked on at once: what is not kept stays small


class HalfMemoryAdamW:
    """Changes large weights to bfloat16 as it is made.

    trained : name -> weight; decayed : names of those that decay by ``decay`` times the rate
    """

    def __init__(self, trained: Mapping[str, nn.Parameter], decayed: set[str], decay: float) -> None:
        self._trained, self._decayed, self._decay = dict(trained), decayed, decay
        self._step = 0
        self._codes: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._kept: dict[str, dict[str, Tensor]] = {}
        for name, weight in trained.items():
            self._kept[name] = _averages(weight)
            if weight.numel() >= LARGE:
                upper, lower = split(weight.data)
                weight.data = upper
                self._kept[name]["lower"] = lower.view(-1)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        self._step += 1
        for name, weight in self._trained.items():
            if weight.grad is not None:
                self._change(name, weight, rate)

    def _change(self, name: str, weight: nn.Parameter, rate: float) -> None:
        decay = rate * self._decay if name in self._decayed else 0.0
        kept = self._kept[name]
        corrected = [1.0 - beta**self._step for beta in BETAS]
        assert weight.grad is not None
        signed, positive = self._codes_on(weight.device)
        flat, gradient = weight.data.view(-1), weight.grad.reshape(-1)
        for piece, blocks in _pieces(weight.numel()):
            slope = gradient[piece].float()
            first = read_blocks(kept["first"][piece], kept["first_scale"][blocks], signed)
            root = read_blocks(kept["second"][piece], kept["second_scale"][blocks], positive)
            first.lerp_(slope, 1.0 - BETAS[0])
            second = root.square_().mul_(BETAS[1]).addcmul_(slope, slope, value=1.0 - BETAS[1])
            whole = join(flat[piece], kept["lower"][piece]) if "lower" in kept else flat[piece]
            whole.mul_(1.0 - decay)
            spread = (second / corrected[1]).sqrt_().add_(EPSILON)
            whole.addcdiv_(first, spread, value=-rate / corrected[0])
            if "lower" in kept:
                upper, kept["lower"][piece] = split(whole)
                flat[piece] = upper
            kept["first"][piece], kept["first_scale"][blocks] = write_blocks(first, signed)
            kept["second"][piece], kept["second_scale"][blocks] = write_blocks(second.sqrt_(), positive)

    def _codes_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._codes:
            self._codes[device] = SIGNED.to(device), POSITIVE.to(device)
        return self._codes[device]

    def state(self) -> dict[str, Tensor]:
        held = {f"trained.{name}": weight for name, weight in self._trained.items()}
        return held | {f"{kind}.{name}": each for name, kept in self._kept.items() for kind, each in kept.items()}

    @torch.no_grad()
    def restore(self, step: int, held: Mapping[str, Tensor]) -> None:
        self._step = step
        for name, weight in self._trained.items():
            weight.copy_(held[f"trained.{name}"])
            for kind, kept in self._kept[name].items():
                kept.copy_(held[f"{kind}.{name}"])

    def whole(self, name: str) -> Tensor:
        """The weight in float32."""
        weight, kept = self._trained[name].data, self._kept[name]
        return join(weight, kept["lower"].view(weight.shape)) if "lower" in kept else weight


def split(whole: Tensor) -> tuple[Tensor, Tensor]:
    """Upper half as bfloat16, the nearest to each float32 number, and the rest as int16."""
    bits = whole.contiguous().view(torch.int32)
    upper = (bits + 0x8000) >> 16
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << 16)).to(torch.int16)


def join(upper: Tensor, lower: Tensor) -> Tensor:
    """The float32 numbers that ``split`` was given."""
    bits = (upper.contiguous().view(torch.int16).to(torch.int32) << 16) + lower.to(torch.int32)
    return bits.view(torch.float32)


def _codes(signed: bool) -> Tensor:
    """(256,) sorted: 0, 1, and in each decade below it half as many numbers as in the one above."""
    decades = 7 if signed else 8
    positive = []
    for decade in range(decades):
        edges = torch.linspace(0.1, 1.0, 2 ** (decades - 1 - decade) + 1, dtype=torch.float64)
        positive += ((edges[:-1] + edges[1:]) / 2 * 10.0**-decade).tolist()
    others = [-value for value in positive] if signed else []
    held = sorted([0.0, 1.0, *positive, *others])
    return torch.tensor(held if signed else [0.0, *held[2:]]).float()  # without a sign the smallest is one too many


SIGNED, POSITIVE = _codes(True), _codes(False)


def write_blocks(values_E: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 (E,) places of the nearest codes, and the scale (B,) of each block: its largest magnitude."""
    n = len(values_E)
    padded = nn.functional.pad(values_E, (0, -n % _BLOCK)).view(-1, _BLOCK)
    scale_B = padded.abs().amax(dim=1)
    relative = padded / scale_B.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    table = codes.to(values_E.device)
    borders = (table[:-1] + table[1:]) / 2
    return torch.bucketize(relative, borders).to(torch.uint8).view(-1)[:n], scale_B


def read_blocks(places_E: Tensor, scale_B: Tensor, codes: Tensor) -> Tensor:
    """float32 (E,) of what ``write_blocks`` gave."""
    values_E = codes.to(places_E.device)[places_E.long()]
    scales_E = scale_B.repeat_interleave(_BLOCK)[: len(values_E)]
    return values_E.mul_(scales_E)


def _averages(weight: Tensor) -> dict[str, Tensor]:
    n, device = weight.numel(), weight.device
    zeros = {"first": int(SIGNED.abs().argmin()), "second": int(POSITIVE.abs().argmin())}
    kept: dict[str, Tensor] = {}
    for name, zero in zeros.items():
        kept[name] = torch.full((n,), zero, dtype=torch.uint8, device=device)
        kept[f"{name}_scale"] = torch.zeros(math.ceil(n / _BLOCK), device=device)
    return kept


def _pieces(n: int) -> Iterator[tuple[slice, slice]]:
    """Parts of a weight, and the blocks that these are."""
    for start in range(0, n, _PIECE):
        stop = min(start + _PIECE, n)
        yield slice(start, stop), slice(start // _BLOCK, math.ceil(stop / _BLOCK))
