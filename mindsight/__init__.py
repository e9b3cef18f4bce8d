"""Mindsight: real-time fMRI decoding. The library that every part of the service stands on."""

from mindsight import compat, moved

__version__ = "0.1.0"

compat.install()
moved.install()
