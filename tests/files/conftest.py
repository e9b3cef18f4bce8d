"""A small disk, as a fixture."""

from support.small_files import small_files

__all__ = ["small_files"]
