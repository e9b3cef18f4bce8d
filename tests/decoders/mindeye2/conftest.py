"""The recorded reference of MindEye2, as fixtures."""

from support.mindeye2_reference import model, reference, weights

__all__ = ["model", "reference", "weights"]
