"""The U-Net at its published size becomes an engine on a machine without a card."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
import torch

from mindsight.generators.engines import folder as folders
from mindsight.generators.engines import registry
from mindsight.generators.unclip.sdxl.unet import Denoiser, UnetLayout, build_unet
from support.small_sdxl import denoiser_of

PUBLISHED = UnetLayout()
N_PARAMETERS = 2_501_272_324
EDGE = 96  # of a latent, for images of 768 pixels


@pytest.mark.slow
def test_the_published_u_net_is_built_for_a_workstation(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    with torch.device("meta"):
        module = Denoiser(build_unet(PUBLISHED)).to(torch.float16)
    module = module.to_empty(device="cpu").requires_grad_(False)
    for weight in module.parameters():
        weight.fill_(1e-3)
    assert sum(weight.numel() for weight in module.parameters()) == N_PARAMETERS

    started_s = time.perf_counter()
    reached_s: dict[str, float] = {}
    engine = registry.build(
        "tensorrt",
        [denoiser_of(module, PUBLISHED, edge=EDGE, n_tokens=256)],
        "5" * 64,
        tmp_path,
        ["8.9"],
        lambda what, done: reached_s.setdefault(what, time.perf_counter() - started_s),  # type: ignore[arg-type]
    )
    plan = engine / "denoiser.plan"
    n_bytes, peak_bytes = plan.stat().st_size, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan.unlink()  # pytest keeps the folders of three runs
    assert folders.read_description(engine).capabilities == ("8.9",)
    assert n_bytes > 1e8
    building_s = reached_s["building the denoiser for 8.9"]
    record_property(
        "figures",
        f"published U-Net, 768 px, float16: exported in {building_s:.0f} s, built for 8.9 in"
        f" {reached_s['built'] - building_s:.0f} s, peak {peak_bytes / 1e9:.1f} GB of the process, plan of"
        f" {n_bytes / 1e9:.2f} GB (weights all alike)",
    )
