"""The YAML that a checkpoint was trained with (Stability AI's ``generative-models``), if it lies beside the file.

Shapes show every dimension but the width of an attention head; the YAML states it, and must agree with the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindsight.errors import ModelMismatch
from mindsight.generators.unclip.sdxl.unet import UnetLayout
from mindsight.generators.unclip.sdxl.vae import SCALING


@dataclass(frozen=True, slots=True)
class Original:
    """file : its name; network : parameters of the U-Net; scale : of latents"""

    file: str
    network: Mapping[str, Any]
    scale: float

    @property
    def head_dim(self) -> int:
        return int(self.network["num_head_channels"])

    def require(self, layout: UnetLayout) -> None:
        """Raises ModelMismatch (``checkpoint.config``) unless it describes this U-Net."""
        stated = {
            "widths": [self.network["model_channels"] * factor for factor in self.network["channel_mult"]],
            "resnets": self.network["num_res_blocks"],
            "token_dim": self.network["context_dim"],
            "vector_dim": self.network["adm_in_channels"],
            "channels": self.network["in_channels"],
            "scale of latents": self.scale,
        }
        found = {name: getattr(layout, name) for name in stated if name != "scale of latents"}
        found |= {"widths": list(layout.widths), "scale of latents": SCALING}
        for name, value in stated.items():
            if value != found[name]:
                raise ModelMismatch(
                    f"expected {self.file} to describe the checkpoint beside it, got {name} {value} in it and"
                    f" {found[name]} in the weights: remove the file, or put the right one there",
                    code="checkpoint.config",
                )


def original_beside(checkpoint: Path) -> Original | None:
    """The YAML whose name the checkpoint's name begins with (``unclip6.yaml``), None if there is none.

    Raises ModelMismatch (``checkpoint.config``) if it does not describe an SDXL U-Net.
    """
    import yaml

    named = [path for path in sorted(checkpoint.parent.glob("*.yaml")) if checkpoint.stem.startswith(path.stem)]
    if not named:
        return None
    path = max(named, key=lambda path: len(path.stem))
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["params"]
        original = Original(path.name, dict(params["network_config"]["params"]), float(params["scale_factor"]))
        needed = ("model_channels", "channel_mult", "num_res_blocks", "context_dim", "adm_in_channels", "in_channels")
        if lacking := [name for name in (*needed, "num_head_channels") if name not in original.network]:
            raise ValueError(f"no {', '.join(lacking)}")
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelMismatch(
            f"expected the configuration of an SDXL U-Net in {path.name}, got another ({reason}): remove the file, or"
            " put the checkpoint's own there",
            code="checkpoint.config",
        ) from None
    return original
