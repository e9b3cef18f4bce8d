"""Loops over embeddings in half precision that NumPy has no call for. They release the interpreter's lock.

Knows nothing of pools. Letters: N rows, D numbers of a row, B queries, P requested rows, M numbers of a sketch.

NumPy widens float16 one number at a time, an order of magnitude slower than memory delivers it. Here the loop that uses
a number also widens it, and nothing is written back: by the processor's own instruction if it has one, otherwise by
integer arithmetic, which every processor vectorises and which is two thirds slower. Half precision is passed as its
bits, uint16.
"""

# mypy: disallow-untyped-decorators=False

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import config
from numba.extending import intrinsic
from numpy.typing import NDArray

# Sums are in float32 within a tile and in float64 over the tiles: with 425,984 numbers they stay good to 1e-7.
# A tile of the row and of a few queries fits into the first two caches.
_TILE = 8192
_FAST = {"reassoc", "contract", "nsz"}


def _has_instruction() -> bool:
    """Whether the processor that code is compiled for widens half precision itself."""
    if config.CPU_NAME is not None:  # type: ignore[attr-defined]
        return False  # compiled for another processor, whose features are unknown here
    return platform.machine() in ("aarch64", "arm64") or bool(binding.get_host_cpu_features().get("f16c"))


def _type_wide(_typing: Any, number: Any) -> Any:
    """float32 from a float32, or from the bits of a float16; exact for every finite number."""
    if number == types.float32:
        return types.float32(number), lambda _context, _builder, _signature, arguments: arguments[0]
    return types.float32(types.uint16), _extend if _has_instruction() else _widen_half


def _extend(_context: Any, build: Any, _signature: Any, arguments: Any) -> Any:
    return build.fpext(build.bitcast(arguments[0], ir.HalfType()), ir.FloatType())


def _widen_half(_context: Any, build: Any, _signature: Any, arguments: Any) -> Any:
    """Exponent and mantissa move to their places in a float32; the difference of the exponents' biases, 112, is added.

    A subnormal half (exponent 0) has no leading one: one is added and subtracted again as a float, so that no
    subnormal float32 enters the arithmetic: some processors take a hundred cycles for one.
    """
    i32, f32 = ir.IntType(32), ir.FloatType()
    bits = build.zext(arguments[0], i32)
    magnitude = build.shl(build.and_(bits, i32(0x7FFF)), i32(13))
    normal = build.add(magnitude, i32(112 << 23))
    with_one = build.bitcast(build.add(magnitude, i32(113 << 23)), f32)
    subnormal = build.bitcast(build.fsub(with_one, ir.Constant(f32, 2.0**-14)), i32)
    size = build.select(build.icmp_unsigned("<", magnitude, i32(1 << 23)), subnormal, normal)
    sign = build.shl(build.and_(bits, i32(0x8000)), i32(16))
    return build.bitcast(build.or_(size, sign), f32)


_wide: Any = intrinsic(_type_wide)


@njit(nogil=True, cache=True, fastmath=_FAST)
def dot_rows(
    elements_ND: NDArray[Any],
    places_P: NDArray[np.int64],
    queries_BD: NDArray[np.float32],
    dots_BP: NDArray[np.float64],
    squares_P: NDArray[np.float64],
) -> None:
    """Dot products of the rows at the indices with each query, and the rows' sums of squares, in one pass.

    A row's sums depend on the row and the query alone, not on its address or on the other rows: equal rows give equal
    bits.
    """
    size = elements_ND.shape[1]
    for p in range(places_P.size):
        row = elements_ND[places_P[p]]
        squares = np.float64(0.0)
        dots_BP[:, p] = 0.0
        for start in range(0, size, _TILE):
            n = min(_TILE, size - start)
            tile = row[start : start + n]
            for b in range(queries_BD.shape[0]):
                query = queries_BD[b, start : start + n]
                dot, square = np.float32(0.0), np.float32(0.0)
                for j in range(n):
                    x = _wide(tile[j])
                    dot += x * query[j]
                    square += x * x
                dots_BP[b, p] += dot
                if b == 0:
                    squares += square
        squares_P[p] = squares


@njit(nogil=True, cache=True)
def widen(elements_ND: NDArray[Any], out_ND: NDArray[np.float32]) -> None:
    """float32 of every number."""
    for i in range(elements_ND.shape[0]):
        row, out = elements_ND[i], out_ND[i]
        for j in range(row.size):
            out[j] = _wide(row[j])


@njit(nogil=True, cache=True)
def sketch_rows(elements_ND: NDArray[Any], slot_D: NDArray[np.int32], out_NM: NDArray[np.float32]) -> None:
    """Add every number of a row to its slot; slot 2m counts for m, slot 2m + 1 against it."""
    sums = np.empty(2 * out_NM.shape[1])
    for i in range(elements_ND.shape[0]):
        row = elements_ND[i]
        sums[:] = 0.0
        for j in range(row.size):
            sums[slot_D[j]] += _wide(row[j])
        for m in range(out_NM.shape[1]):
            out_NM[i, m] = sums[2 * m] - sums[2 * m + 1]
