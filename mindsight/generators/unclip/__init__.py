"""unCLIP: latent diffusion from image tokens to the image. ``demo`` is the model that ships, ``sdxl`` the released one.

Knows nothing of brains. The names here are imported when they are asked for: a process that only lists kinds of
generators does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mindsight.generators.sampling.plan import SamplerPlan
    from mindsight.generators.sampling.presets import plan
    from mindsight.generators.unclip.sdxl.loading import load_unclip
    from mindsight.generators.unclip.sdxl.pipeline import Unclip

__all__ = ["SamplerPlan", "Unclip", "load_unclip", "plan"]
_MODULES = {
    "SamplerPlan": "mindsight.generators.sampling.plan",
    "Unclip": "mindsight.generators.unclip.sdxl.pipeline",
    "load_unclip": "mindsight.generators.unclip.sdxl.loading",
    "plan": "mindsight.generators.sampling.presets",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
