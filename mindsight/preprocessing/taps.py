"""The weighted sum of 4 x 4 x 4 neighbouring coefficients, as sixteen loads of four and multiply-adds of four.

Knows nothing of what the weights are. Written in LLVM's terms because the compiler does not find this form by itself
(1.5 times slower from loops); the order of the sums is part of the text, hence the same bits every time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

_INT = ir.IntType(32)
_FOUR = ir.VectorType(ir.FloatType(), 4)
_CONTRACT = ["contract"]  # a multiply-add may be one instruction; nothing may change places


def _unpack(builder: Any, four: Any) -> list[Any]:
    return [builder.extract_value(four, i) for i in range(4)]


def _vector(builder: Any, values: list[Any]) -> Any:
    out = ir.Constant(_FOUR, ir.Undefined)
    for i, value in enumerate(values):
        out = builder.insert_element(out, value, _INT(i))
    return out


def _add_product(builder: Any, total: Any, weight: Any, values: Any) -> Any:
    product = builder.fmul(_vector(builder, [weight] * 4), values, flags=_CONTRACT)
    return product if total is None else builder.fadd(product, total, flags=_CONTRACT)


def _weighted_sum(
    typing_context: Any, coef: Any, offset: Any, stride_x: Any, stride_y: Any, w_x: Any, w_y: Any, w_z: Any
) -> Any:
    """Sum over p, q, r of w_x[p] w_y[q] w_z[r] coef.flat[offset + p stride_x + q stride_y + r].

    coef : C-contiguous float32 array; offset and strides in elements; w_x, w_y, w_z : tuples of four float32
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, start, step_x, step_y, *weights = arguments
        plane = builder.gep(context.make_array(signature.args[0])(context, builder, array).data, [start])
        over_x, over_y, over_z = (_unpack(builder, four) for four in weights)
        total = None
        for weight_x in over_x:
            row, rows = plane, None
            for weight_y in over_y:
                values = builder.load(builder.bitcast(row, ir.PointerType(_FOUR)), align=4)
                rows = _add_product(builder, rows, weight_y, values)
                row = builder.gep(row, [step_y])
            total = _add_product(builder, total, weight_x, rows)
            plane = builder.gep(plane, [step_x])
        a, b, c, d = (builder.extract_element(builder.fmul(total, _vector(builder, over_z)), _INT(i)) for i in range(4))
        return builder.fadd(builder.fadd(a, b), builder.fadd(c, d))

    return types.float32(coef, offset, stride_x, stride_y, w_x, w_y, w_z), generate


weighted_sum: Any = intrinsic(_weighted_sum)
