"""A linear layer for one trial or a few: every weight is read once, at the speed of memory.

Knows nothing of models. With few rows, a matrix product takes as long as reading the weights. BLAS, which is made for
many rows, reads them at half of memory's speed for one row, and again for each further row.

Axes: B rows, K inputs, N outputs.
"""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

FEW = 4  # rows up to which reading the weights is what takes the time
_WORTH_A_THREAD = 1 << 22  # weights; for fewer, waking a thread takes longer than reading them


def affine(x_BK: Tensor, weight_NK: Tensor, bias_N: Tensor) -> Tensor:
    """(B, N). On a processor, in float32 and for few rows, by a loop of our own, otherwise by torch's."""
    few = x_BK.device.type == "cpu" and weight_NK.dtype == torch.float32 and len(x_BK) <= FEW
    if not few or not weight_NK.is_contiguous():
        return F.linear(x_BK, weight_NK, bias_N)
    out_BN = torch.empty(len(x_BK), len(weight_NK))
    arrays = (x_BK.contiguous().numpy(), weight_NK.detach().numpy(), bias_N.detach().numpy(), out_BN.numpy())
    n_outputs, threads = len(weight_NK), min(torch.get_num_threads(), 1 + weight_NK.numel() // _WORTH_A_THREAD)
    if threads == 1:
        _rows(*arrays, 0, n_outputs)
    else:
        cuts = [n_outputs * part // threads for part in range(threads + 1)]
        parts = [_pool(threads - 1).submit(_rows, *arrays, *cuts[part : part + 2]) for part in range(1, threads)]
        _rows(*arrays, *cuts[:2])
        for part in parts:
            part.result()
    return out_BN


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="affine")


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _rows(
    x_BK: NDArray[np.float32],
    weight_NK: NDArray[np.float32],
    bias_N: NDArray[np.float32],
    out_BN: NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    for n in range(start, stop):
        row = weight_NK[n]
        for b in range(x_BK.shape[0]):
            x = x_BK[b]
            dot = np.float32(0.0)
            for k in range(row.size):
                dot += row[k] * x[k]
            out_BN[b, n] = dot + bias_N[n]
