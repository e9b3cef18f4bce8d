"""Converts the tokens that MindEye2 predicts into those that GIT was trained on: two linear layers.

Knows nothing of language. The released file is ``bigG_to_L_epoch8.pth``: 256 tokens of OpenCLIP bigG (1,664 wide)
become 257 of CLIP-L (1,024 wide).

Axes: B batch, N tokens, D channels; M and C the same of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mindsight.errors import ModelMismatch
from mindsight.weights.device import HOST, Placement
from mindsight.weights.state_dict import read_state_dict

_KEYS = ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")


@dataclass(frozen=True, eq=False)
class TokenConverter:
    """``across`` mixes tokens, channel by channel; ``along`` then mixes the channels of each token."""

    across_MN: Tensor
    across_bias_M: Tensor
    along_CD: Tensor
    along_bias_C: Tensor

    @classmethod
    def load(cls, path: Path, placement: Placement = HOST) -> TokenConverter:
        """Read the released ``.pth`` (``model_state_dict`` inside) or a ``.safetensors`` file with the same keys.

        Raises ModelMismatch if keys are missing or their shapes do not fit each other.
        """
        state = read_state_dict(path)
        if missing := [key for key in _KEYS if key not in state]:
            raise ModelMismatch(
                f"expected a token converter with {', '.join(_KEYS)}, got {path.name} without {', '.join(missing)}",
                code="captions.converter",
            )
        converter = cls(*(placement.weight(state[key]) for key in _KEYS))
        m, c = len(converter.across_bias_M), len(converter.along_bias_C)
        weights = (converter.across_MN, converter.along_CD)
        if [(weight.ndim, len(weight)) for weight in weights] != [(2, m), (2, c)]:
            raise ModelMismatch(
                f"expected weights for {m} tokens of {c}, got {tuple(converter.across_MN.shape)} and "
                f"{tuple(converter.along_CD.shape)} in {path.name}",
                code="captions.converter",
            )
        return converter

    @torch.inference_mode()
    def __call__(self, tokens_BND: Tensor) -> Tensor:
        """(B, M, C). Raises ModelMismatch (``captions.tokens``) for tokens of another number or width."""
        n, d = self.across_MN.shape[1], self.along_CD.shape[1]
        if tokens_BND.shape[1:] != (n, d):
            raise ModelMismatch(
                f"expected {n} tokens of {d} to caption, got {' of '.join(map(str, tokens_BND.shape[1:]))}",
                code="captions.tokens",
            )
        mixed_BMD = F.linear(tokens_BND.transpose(1, 2), self.across_MN, self.across_bias_M).transpose(1, 2)
        return F.linear(mixed_BMD, self.along_CD, self.along_bias_C)
