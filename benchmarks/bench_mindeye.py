"""MindEye2 from voxels to tokens, stage by stage, beside the same mathematics written plainly, with the floor.

    python benchmarks/bench_mindeye.py [--scale 8] [--device cpu] [--threads 1] [--rounds 7] [--whole] [--no-history]

``--scale 8`` is an eighth of the published widths (latent 4,096, tokens 256 x 1,664, 32 heads, 15,724 voxels) and a
quarter of the tokens, with random weights; ``--whole`` is the published size, for a GPU. One trial at a time. The peer
(``plain_mindeye.py``) runs what the description says, with the mixer blocks and with keys and values copied for each
head. Outputs of both are compared on the same noise.

The floor of voxels to tokens is reading every weight once (a sum over them), that of the prior its multiply-adds at the
rate that large products reach on the same device and threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import report
import torch
from plain_mindeye import PlainMindEye2
from torch import Tensor

from mindsight.mindeye import Layout, MindEye2, PriorLayout, Sampler, fold

SUBJECT_VOXELS, HIDDEN, TOKENS, DIM, HEADS, DIM_HEAD, INNER, DEPTH = 15_724, 4096, 256, 1664, 32, 52, 6656, 6
STEPS = (20, 10, 5)


def layout_of(scale: int) -> Layout:
    tokens = TOKENS if scale == 1 else TOKENS // 4
    prior = PriorLayout(depth=DEPTH, heads=HEADS // scale, dim_head=DIM_HEAD, inner=INNER // scale)
    return Layout(
        voxels=(SUBJECT_VOXELS // scale,), hidden=HIDDEN // scale, tokens=tokens, dim=DIM // scale, prior=prior
    )


def multiply_adds(layout: Layout) -> float:
    """Of one evaluation of the prior, without what is small beside the products."""
    assert layout.prior is not None
    length, dim, prior = 2 * layout.tokens + 1, layout.dim, layout.prior
    wide = prior.heads * prior.dim_head
    of_row = 2 * dim * wide + 2 * dim * prior.dim_head + 3 * dim * prior.inner + 2 * wide * (length + 1)
    last = length * 2 * dim * prior.dim_head + layout.tokens * (of_row - 2 * dim * prior.dim_head)
    return (prior.depth - 1) * length * of_row + last + layout.tokens * dim * dim


def large_product(layout: Layout, device: torch.device) -> tuple[Callable[[], object], float]:
    """A product that runs at the device's full rate, and how often its work is one evaluation of the prior."""
    n = 4096 if device.type == "cuda" else 1024
    a, out = torch.ones(n, n, device=device), torch.empty(n, n, device=device)
    return lambda: torch.mm(a, a, out=out), multiply_adds(layout) / n**3


def waited(method: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The method and what it started on the device."""

    def work() -> object:
        out = method()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return out

    return work


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.std())


def measure(layout: Layout, device: torch.device, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = MindEye2(layout).eval().requires_grad_(False).to(device)
    assert model.prior is not None
    assert layout.prior is not None
    state = {key: tensor.detach() for key, tensor in model.state_dict().items()}
    folded, peer = fold(model), PlainMindEye2(state, layout.prior.heads)
    samplers = {steps: Sampler(model.prior, steps) for steps in STEPS}
    voxels_BV = torch.randn(1, layout.voxels[0], device=device)
    noises = [torch.randn(1, layout.tokens, layout.dim, device=device) for _ in range(max(STEPS))]
    backbone, retrieval = peer.tokens(voxels_BV)
    ours = folded.tokens(voxels_BV, lowlevel=False)
    weights = folded.tensors()
    product, products = large_product(layout, device)

    def whole(steps: int) -> Tensor:
        return samplers[steps](folded.tokens(voxels_BV, lowlevel=False).backbone, noises)

    methods: dict[str, Callable[[], object]] = {
        "tokens: ours": lambda: folded.tokens(voxels_BV, lowlevel=False),
        "tokens: not folded": lambda: model.tokens(voxels_BV),
        "tokens: peer": lambda: peer.tokens(voxels_BV),
        "tokens: floor": lambda: [tensor.sum() for tensor in weights],
        **{f"prior, {n} steps: ours": lambda n=n: samplers[n](backbone, noises) for n in STEPS},
        **{f"prior, {n} steps: peer": lambda n=n: peer.sample(backbone, n, iter(noises)) for n in STEPS[:1]},
        "whole way, 20 steps: ours": lambda: whole(20),
        "whole way, 20 steps: peer": lambda: peer.sample(peer.tokens(voxels_BV)[0], 20, iter(noises)),
        "a large product": product,
    }
    with torch.inference_mode():
        clocks = report.in_turn({name: waited(method, device) for name, method in methods.items()}, rounds)
        equal = {
            "backbone tokens": apart(ours.backbone, backbone),
            "retrieval tokens": apart(ours.retrieval, retrieval),
            "prior, 20 steps": apart(samplers[20](backbone, noises), peer.sample(backbone, 20, iter(noises))),
        }
    one = clocks.pop("a large product")
    for steps in STEPS:
        factor = (steps - 1) * products
        clocks[f"prior, {steps} steps: floor"] = report.Clock(
            [factor * ms for ms in one.wall_ms], [factor * ms for ms in one.process_ms]
        )
    live = sum(tensor.numel() for tensor in weights)
    every = sum(t.numel() for key, t in state.items() if not key.startswith("diffusion_prior."))
    ours_of = {name: name.replace("peer", "ours").replace("not folded", "ours") for name in clocks}
    floor_of = {name: name.replace("ours", "floor") for name in clocks if name.endswith("ours")}
    return {
        "ms": report.compared(
            clocks,
            ours={name: other for name, other in ours_of.items() if name != other},
            floor={name: other for name, other in floor_of.items() if other in clocks},
        ),
        "weights_read": {"full": every, "folded": live, "bytes_full": 4 * every, "bytes_folded": 4 * live},
        "largest_difference_in_sd": equal,
    }


def main() -> None:
    parser = report.parser(__doc__, whole="the published size: 9 GB of weights, for a GPU")
    parser.add_argument("--scale", type=int, default=8, choices=(1, 2, 4, 8))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="on a busy processor more wait for each other")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    scale = 1 if given.whole else given.scale
    layout, device = layout_of(scale), torch.device(given.device)
    torch.set_num_threads(given.threads)
    began = report.machine()
    found = measure(layout, device, given.rounds)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{given.threads} CPU threads"
    title = f"{layout.voxels[0]} voxels, latent {layout.hidden}, {layout.tokens} x {layout.dim} tokens, float32, {kind}"
    report.print_table(title, found["ms"])
    read = found["weights_read"]
    print(f"weights a trial's tokens need: {read['full']:,} in full, {read['folded']:,} folded")
    differences = "; ".join(f"{name} {value:.1e}" for name, value in found["largest_difference_in_sd"].items())
    print(f"largest difference to the peer, in sd: {differences}")
    report.finish("mindeye", given, began, ["torch"], scale=scale, device=kind, rounds=given.rounds, **found)


if __name__ == "__main__":
    main()
