"""Mindsight: real-time fMRI decoding. The library that every part of the service stands on."""

from importlib.metadata import PackageNotFoundError, version

from mindsight import compat, moved

try:
    __version__ = version("mindsight")  # of the git tag, as it was when the package was installed
except PackageNotFoundError:  # a folder on the path, which nobody installed
    __version__ = "0+unknown"

compat.install()
moved.install()
