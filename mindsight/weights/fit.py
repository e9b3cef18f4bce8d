"""Whether a state dict is that of a network, key by key and shape by shape.

Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mindsight.errors import ModelMismatch

_LISTED = 20


def require_fit(
    what: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, code: str = "checkpoint.keys"
) -> None:
    """Raises ModelMismatch under ``code``, which lists what is missing, unexpected or misshapen, in one line.

    what : the network, as the message names it ("the U-Net of SDXL")
    """
    require_none(
        what,
        code=code,
        missing=[key for key in wanted if key not in found],
        unexpected=[key for key in found if key not in wanted],
        misshapen=[
            f"{key}: {tuple(found[key].shape)}, needs {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in found and found[key].shape != tensor.shape
        ],
    )


def require_none(what: str, *, code: str = "checkpoint.keys", **wrong: list[str]) -> None:
    """Raises ModelMismatch under ``code`` if anything is listed as wrong."""
    listed = [
        f"{len(keys)} {kind} ({', '.join(keys[:_LISTED])}{', ...' if len(keys) > _LISTED else ''})"
        for kind, keys in wrong.items()
        if keys
    ]
    if listed:
        raise ModelMismatch(
            f"expected the keys and shapes of {what}, got {'; '.join(listed)}: choose a checkpoint of these",
            code=code,
            **{kind: len(keys) for kind, keys in wrong.items()},
        )
