"""A checkpoint of the published size, written, converted and loaded on this machine: seconds, and peak memory.

    python benchmarks/full_size_mindeye2.py FOLDER [--dtype float16] [--scale 1]

Needs 8.9 GB of disk for ``last.pth`` and as much (or half, in half precision) for the result; both are removed at the
end. The weights are zeros but for the first row of each, which is random and compared at the end. Each step runs in a
process of its own, so that its peak of resident memory is its own; mapped pages of the file count, and are the larger
part of it: the system takes them back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from bench_mindeye import layout_of

from mindsight.decoders.mindeye2 import convert_mindeye2, load_mindeye2
from mindsight.decoders.mindeye2.model import MindEye2
from mindsight.decoders.mindeye2.schedule import alphas_cumprod

_SCHEDULE = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "p2_loss_weight",
]


def first_row(key: str, shape: torch.Size) -> torch.Tensor:
    rng = torch.Generator().manual_seed(len(key) * 1009 + sum(map(ord, key)))
    return torch.randn(shape[1:] or shape, generator=rng)


def write(path: Path, scale: int) -> None:
    """The 249 keys of the reference with its container. Untouched zeros cost no memory."""
    with torch.device("meta"):
        wanted = MindEye2(layout_of(scale)).state_dict()
    state = {f"diffusion_prior.noise_scheduler.{name}": torch.from_numpy(alphas_cumprod()) for name in _SCHEDULE}
    for key, like in wanted.items():
        state[key] = torch.zeros(like.shape)
        state[key][0 if like.ndim > 1 else slice(None)] = first_row(key, like.shape)
    assert len(state) == 249
    torch.save({"epoch": 149, "model_state_dict": state, "lrs": []}, path)


def load(folder: Path, dtype: torch.dtype) -> None:
    """Load, compare, and decode one trial."""
    model = load_mindeye2(folder, dtype)
    for key, tensor in model.state_dict().items():
        row = tensor[0] if tensor.ndim > 1 else tensor
        assert torch.equal(row, first_row(key, tensor.shape).to(row.dtype)), key
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {model.layout}", file=sys.stderr)


def step(name: str, folder: Path, dtype: str, scale: int) -> None:
    """In a process of its own."""
    began = time.perf_counter()
    if name == "write":
        write(folder / "last.pth", scale)
    elif name == "convert":
        convert_mindeye2(folder / "last.pth", folder / "converted", getattr(torch, dtype))
    else:
        load(folder / "converted", getattr(torch, dtype))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"step": name, "s": round(time.perf_counter() - began, 1), "peak_gb": round(peak / 1e9, 2)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="float16", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--scale", type=int, default=1, help="divide all widths by it")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step(given.step, given.folder, given.dtype, given.scale)
        return
    given.folder.mkdir(parents=True, exist_ok=False)
    try:
        for name in ("write", "convert", "load"):
            arguments = [str(given.folder), "--dtype", given.dtype, "--scale", str(given.scale), "--step", name]
            subprocess.run([sys.executable, __file__, *arguments], check=True)
            if name == "write":
                print(f"last.pth: {(given.folder / 'last.pth').stat().st_size / 1e9:.2f} GB")
    finally:
        shutil.rmtree(given.folder)


if __name__ == "__main__":
    main()
