"""The network of each metric, the file name of its published weights, and the preparation of its images.

Does not import torch, so that the command line can list missing weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mindsight.evaluation.metrics.metric import (
    ALEXNET_2,
    ALEXNET_5,
    CLIP,
    EFFICIENTNET,
    INCEPTION,
    SWAV,
    Metric,
)

Triple = tuple[float, float, float]
_IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OPENAI: tuple[Triple, Triple] = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """One feature network.

    files : possible names of its weights in the folder of networks; the first is the published name
    size : images are resized to this, bilinear, no crop (Scotti et al. 2024, MindEye2, the published evaluation)
    mean, std : of the three colours
    metrics : layer -> the metric its features serve
    unused : prefixes of keys in the file that are not needed here
    """

    key: str
    files: tuple[str, ...]
    size: int
    normalisation: tuple[Triple, Triple]
    metrics: dict[str, Metric]
    unused: tuple[str, ...] = ()

    def locate(self, folder: Path) -> Path | None:
        """The file or folder with its weights, or None."""
        return next((folder / name for name in self.files if (folder / name).exists()), None)


NETWORKS = (
    NetworkSpec(
        "alexnet",
        ("alexnet-owt-7be5be79.pth", "alexnet.safetensors"),
        256,
        _IMAGENET,
        {"features.4": ALEXNET_2, "features.11": ALEXNET_5},
        unused=("classifier.",),
    ),
    NetworkSpec(
        "inception",
        ("inception_v3_google-0cc3c7bd.pth", "inception_v3.safetensors"),
        342,
        _IMAGENET,
        {"avgpool": INCEPTION},
        unused=("fc.", "AuxLogits."),
    ),
    NetworkSpec("clip", ("clip-vit-large-patch14",), 224, _OPENAI, {"image_embeds": CLIP}),
    NetworkSpec(
        "efficientnet",
        ("efficientnet_b1-c27df63c.pth", "efficientnet_b1.safetensors"),
        255,
        _IMAGENET,
        {"avgpool": EFFICIENTNET},
        unused=("classifier.",),
    ),
    NetworkSpec(
        "swav",
        ("swav_800ep_pretrain.pth.tar", "swav.safetensors"),
        224,
        _IMAGENET,
        {"avgpool": SWAV},
        unused=("fc.", "projection_head.", "prototypes."),
    ),
)
