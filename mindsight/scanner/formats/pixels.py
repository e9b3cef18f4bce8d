"""Allocated words → stored values: the measured values, in the stated bits (PS3.5 section 8.1.1).

Knows nothing of DICOM's elements. Bits beyond those stored may hold anything: overlays, zeros instead of the extended
sign, leftovers. Most files need no change, which only the smallest and largest value show.
"""

from __future__ import annotations

import numpy as np


def stored_values(words: bytes, dtype: str, bits_stored: int | None, high_bit: int | None) -> bytes:
    """Values of dtype, without the unused bits. A header that contradicts itself changes nothing."""
    code = np.dtype(dtype)
    if code.kind == "f":
        return words
    allocated = 8 * code.itemsize
    stored = allocated if bits_stored is None else bits_stored
    high = stored - 1 if high_bit is None else high_bit
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated or stored == allocated:
        return words
    values = np.frombuffer(words, code)
    lowest, beyond = (-(1 << (stored - 1)), 1 << (stored - 1)) if code.kind == "i" else (0, 1 << stored)
    if high == stored - 1 and (not values.size or (values.min() >= lowest and values.max() < beyond)):
        return words
    # Shift to the word's end and back: higher bits drop out, the sign is extended, lower bits are dropped.
    shifted = values << np.array(allocated - 1 - high, code)
    values = shifted >> np.array(allocated - stored, code)
    return bytes(values.tobytes())
