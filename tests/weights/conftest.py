"""The recorded reference of MindEye2 and a small disk, as fixtures."""

from support.mindeye2_reference import model, reference, weights
from support.small_files import small_files

__all__ = ["model", "reference", "small_files", "weights"]
