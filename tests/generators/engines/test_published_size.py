"""The U-Net at its published size becomes an engine on a machine without a card."""

from __future__ import annotations

import gc
import resource
import time
from pathlib import Path

import pytest
import torch

from mindsight.generators.engines import tensorrt
from mindsight.generators.engines.export import data_of, export
from mindsight.generators.unclip.sdxl.unet import UnetLayout, build_unet
from support.small_sdxl import unet_of

PUBLISHED = UnetLayout()
N_PARAMETERS = 2_501_272_324
EDGE = 96  # of a latent, for images of 768 pixels


@pytest.mark.slow
def test_the_published_u_net_is_built_for_a_workstation(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    with torch.device("meta"):
        unet = build_unet(PUBLISHED).to(torch.float16).requires_grad_(False)
        network, keys_values = unet_of(unet, PUBLISHED, edge=EDGE, n_tokens=256)
    both = (network.module, keys_values.module)
    assert sum(weight.numel() for one in both for weight in one.parameters()) == N_PARAMETERS
    module, graph = network.module.to_empty(device="cpu"), tmp_path / "denoiser.onnx"
    for weight in module.parameters():
        weight.fill_(1e-3)

    started_s = time.perf_counter()
    export(network, graph)
    exported_s = time.perf_counter()
    module.to("meta")  # the builder has the weights from the disk
    gc.collect()  # the exporter leaves circles that hold them
    plan = tensorrt.build_plan(graph, network, ["8.9"], lambda share: None)
    built_s = time.perf_counter()
    for path in (graph, data_of(graph)):  # pytest keeps the folders of three runs
        path.unlink()

    assert plan.nbytes > 1e8
    peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record_property(
        "figures",
        f"published U-Net, 768 px, float16: exported in {exported_s - started_s:.0f} s, built for 8.9 in"
        f" {built_s - exported_s:.0f} s, peak {peak_bytes / 1e9:.1f} GB of the process, plan of"
        f" {plan.nbytes / 1e9:.2f} GB (weights all alike)",
    )
