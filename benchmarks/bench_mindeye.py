"""MindEye2 from voxels to tokens, stage by stage, beside the same mathematics written plainly, with the floor.

    python benchmarks/bench_mindeye.py [--scale 8] [--device cpu] [--dtype float32] [--threads 1] [--rounds 7] [--whole]
        [--no-history]

``--scale 8`` is an eighth of the published widths (latent 4,096, tokens 256 x 1,664, 32 heads, 15,724 voxels) and a
quarter of the tokens, with random weights; the low-level head has one size and keeps it. ``--whole`` is the published
size, for a GPU, in float16 there. The peer (``plain_mindeye.py``) runs what the description says, with the mixer blocks
and with keys and values copied for each head. Outputs of both are compared on the same noise.

- retrieval: voxels of one trial to retrieval tokens.
- retrieval, 3 repeats: of the three trials of an image, averaged after the head; the peer computes one after the other,
  as the reference does.
- retrieval, by the reference's forward: the released code runs every head to get at the retrieval tokens, the low-level
  one among them; ours runs what is asked for.
- all heads, 3 repeats: with the low-level head on both sides.
- prior: backbone tokens to image tokens. On a GPU ours is one CUDA graph.
- whole way: voxels of one trial to retrieval tokens and image tokens.

The floor of retrieval is reading every weight once (a sum over them), that of the prior its multiply-adds at the rate
that large products reach on the same device and threads in the same precision. Both halves of a comparison in float16
round differently, and random weights make much of it: that they are equal is for float32 to show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import report
import torch
from plain_mindeye import PlainMindEye2
from torch import Tensor

from mindsight.decoders.mindeye2 import Layout, MindEye2, PriorLayout, Sampler, fold, load_mindeye2

SUBJECT_VOXELS, HIDDEN, TOKENS, DIM, HEADS, DIM_HEAD, INNER, DEPTH = 15_724, 4096, 256, 1664, 32, 52, 6656, 6
STEPS = (20, 10, 5)
PAUSE_S = 0.02  # as between trials, nothing runs before: threads that wait for work by spinning have gone to sleep
LOWLEVEL = ("blin1.", "bnorm.", "bupsampler.")


def layout_of(scale: int) -> Layout:
    tokens = TOKENS if scale == 1 else TOKENS // 4
    prior = PriorLayout(depth=DEPTH, heads=HEADS // scale, dim_head=DIM_HEAD, inner=INNER // scale)
    return Layout(
        voxels=(SUBJECT_VOXELS // scale,),
        hidden=HIDDEN // scale,
        tokens=tokens,
        dim=DIM // scale,
        lowlevel=True,
        prior=prior,
    )


def multiply_adds(layout: Layout) -> float:
    """Of one evaluation of the prior, without what is small beside the products."""
    assert layout.prior is not None
    length, dim, prior = 2 * layout.tokens + 1, layout.dim, layout.prior
    wide = prior.heads * prior.dim_head
    of_row = 2 * dim * wide + 2 * dim * prior.dim_head + 3 * dim * prior.inner + 2 * wide * (length + 1)
    last = length * 2 * dim * prior.dim_head + layout.tokens * (of_row - 2 * dim * prior.dim_head)
    return (prior.depth - 1) * length * of_row + last + layout.tokens * dim * dim


def large_product(layout: Layout, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    """A product that runs at the device's full rate, and how often its work is one evaluation of the prior."""
    n = 8192 if device.type == "cuda" else 1024
    a, out = (torch.full((n, n), 0.01, device=device, dtype=dtype) for _ in range(2))
    return lambda: torch.mm(a, a, out=out), multiply_adds(layout) / n**3


def waited(method: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The method and what it started on the device."""

    def work() -> object:
        out = method()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return out

    return work


def sizes(tensors: list[Tensor]) -> dict[str, int]:
    """Numbers and bytes that a trial's tokens are made with, each read once."""
    return {
        "numbers": sum(tensor.numel() for tensor in tensors),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    }


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.std())


class Pair:
    """Our folded model and the peer with the same random weights, and the inputs that both get."""

    def __init__(self, layout: Layout, device: torch.device, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        with device:
            model = load_mindeye2(MindEye2(layout).state_dict(), dtype).requires_grad_(False)
        assert model.prior is not None
        assert layout.prior is not None
        state = {key: tensor.detach() for key, tensor in model.state_dict().items()}
        self.folded, self.peer = fold(model), PlainMindEye2(state, layout.prior.heads)
        self.samplers = {steps: Sampler(model.prior, steps) for steps in STEPS}
        self.repeats_RV = torch.randn(3, layout.voxels[0], device=device, dtype=dtype)
        self.voxels_BV = self.repeats_RV[:1]
        self.noises = list(torch.randn(max(STEPS), 1, layout.tokens, layout.dim, device=device, dtype=dtype))
        self.backbone, self.retrieval = self.peer.tokens(self.voxels_BV)
        lowlevel = {id(p) for name, p in self.folded.trunk.named_parameters() if name.startswith(LOWLEVEL)}
        self.weights = {
            "full": [tensor for key, tensor in state.items() if not key.startswith("diffusion_prior.")],
            "folded": self.folded.tensors(),
            "retrieval": [tensor for tensor in self.folded.tensors() if id(tensor) not in lowlevel],
        }

    def peer_repeats(self, all_heads: bool) -> list[Tensor]:
        each = [self.peer.tokens(row_V[None])[1] for row_V in self.repeats_RV]
        means = [torch.stack(each).mean(0)]
        if all_heads:
            means.append(torch.stack([self.peer.lowlevel(row_V[None]) for row_V in self.repeats_RV]).mean(0))
        return means

    def methods(self) -> dict[str, Callable[[], object]]:
        """What is timed, by the name of its row."""
        folded, peer, voxels_BV, repeats_RV = self.folded, self.peer, self.voxels_BV, self.repeats_RV
        backbone, noises, samplers = self.backbone, self.noises, self.samplers
        return {
            "retrieval: ours": lambda: folded.tokens(voxels_BV, lowlevel=False),
            "retrieval: peer": lambda: peer.tokens(voxels_BV),
            "retrieval: floor": lambda: [tensor.sum() for tensor in self.weights["retrieval"]],
            "retrieval, reference's forward: peer": lambda: (peer.tokens(voxels_BV), peer.lowlevel(voxels_BV)),
            "retrieval, 3 repeats: ours": lambda: folded.tokens_of_repeats(repeats_RV, lowlevel=False),
            "retrieval, 3 repeats: peer": lambda: self.peer_repeats(all_heads=False),
            "all heads, 3 repeats: ours": lambda: folded.tokens_of_repeats(repeats_RV),
            "all heads, 3 repeats: peer": lambda: self.peer_repeats(all_heads=True),
            **{f"prior, {n} steps: ours": lambda n=n: samplers[n](backbone, noises) for n in STEPS},
            **{f"prior, {n} steps: peer": lambda n=n: peer.sample(backbone, n, iter(noises)) for n in STEPS[:1]},
            "whole way, 20 steps: ours": lambda: samplers[20](
                folded.tokens(voxels_BV, lowlevel=False).backbone, noises
            ),
            "whole way, 20 steps: peer": lambda: peer.sample(peer.tokens(voxels_BV)[0], 20, iter(noises)),
        }

    def differences(self) -> dict[str, float]:
        """Largest difference between ours and the peer, in standard deviations."""
        ours, prior = self.folded.tokens(self.voxels_BV), self.samplers[20](self.backbone, self.noises)
        latent = self.peer.lowlevel(self.voxels_BV)
        repeats = self.folded.tokens_of_repeats(self.repeats_RV).retrieval
        return {
            "backbone tokens": apart(ours.backbone, self.backbone),
            "retrieval tokens": apart(ours.retrieval, self.retrieval),
            "low-level latent": 0.0 if ours.lowlevel is None else apart(ours.lowlevel, latent),
            "retrieval tokens of 3 repeats": apart(repeats, self.peer_repeats(False)[0]),
            "prior, 20 steps": apart(prior, self.peer.sample(self.backbone, 20, iter(self.noises))),
        }


def measure(layout: Layout, device: torch.device, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    pair = Pair(layout, device, dtype)
    product, products = large_product(layout, device, dtype)
    methods = pair.methods() | {"a large product": product}
    with torch.inference_mode():
        clocks = report.in_turn(
            {name: waited(method, device) for name, method in methods.items()}, rounds, lambda _: time.sleep(PAUSE_S)
        )
        equal = pair.differences()
    one = clocks.pop("a large product")
    for steps in STEPS:
        factor = (steps - 1) * products
        clocks[f"prior, {steps} steps: floor"] = report.Clock(
            [factor * ms for ms in one.wall_ms], [factor * ms for ms in one.process_ms]
        )
    clocks["retrieval, 3 repeats: floor"] = clocks["retrieval: floor"]
    ours_of = {name: name.replace(", reference's forward", "").replace("peer", "ours") for name in clocks}
    floor_of = {name: name.replace("ours", "floor") for name in clocks if name.endswith("ours")}
    floor_of |= {name: name.replace("peer", "floor") for name in clocks if name.endswith("peer")}
    return {
        "ms": report.compared(
            clocks,
            ours={name: other for name, other in ours_of.items() if name != other},
            floor={name: other for name, other in floor_of.items() if other in clocks},
        ),
        "weights": {name: sizes(held) for name, held in pair.weights.items()},
        "largest_difference_in_sd": equal,
    }


def main() -> None:
    parser = report.parser(__doc__, whole="the published size: 9 GB of weights, for a GPU")
    parser.add_argument("--scale", type=int, default=8, choices=(1, 2, 4, 8))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="on a busy processor more wait for each other")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", default="", choices=("", "float32", "float16", "bfloat16"))
    given = parser.parse_args()
    scale = 1 if given.whole else given.scale
    layout, device = layout_of(scale), torch.device(given.device)
    precision = given.dtype or ("float16" if given.whole and device.type == "cuda" else "float32")
    torch.set_num_threads(given.threads)
    began = report.machine()
    found = measure(layout, device, getattr(torch, precision), given.rounds)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{given.threads} CPU threads"
    size = f"{layout.voxels[0]} voxels, latent {layout.hidden}, {layout.tokens} x {layout.dim} tokens"
    report.print_table(f"{size}, {precision}, {kind}", found["ms"])
    for name, held in found["weights"].items():
        print(f"weights of one trial's tokens, {name}: {held['numbers']:,} numbers, {held['bytes'] / 1e6:,.1f} MB")
    differences = "; ".join(f"{name} {value:.1e}" for name, value in found["largest_difference_in_sd"].items())
    print(f"largest difference to the peer, in sd: {differences}")
    report.finish(
        "mindeye", given, began, ["torch"], scale=scale, device=kind, dtype=precision, rounds=given.rounds, **found
    )


if __name__ == "__main__":
    main()
