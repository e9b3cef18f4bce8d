"""What ``pip install mindsight`` leaves out, and the one-line error of a command that needs it.

The base install is for a console or a stimulus computer: the SDK, ``stream``, ``inspect``. ``mindsight[server]`` is
the service. Knows the packages by name only.
"""

from __future__ import annotations

import importlib.util
import sys

from mindsight.errors import NotInstalled

SERVER = (
    *("torch", "diffusers", "transformers", "open_clip", "h5py", "safetensors", "scipy", "numba", "nibabel", "PIL"),
    *("yaml", "fastapi", "uvicorn", "redis", "prometheus_client"),
)
"""The packages of ``mindsight[server]``, as they are imported."""
SERVER_PYTHON = (3, 11)
_INSTALL = 'pip install "mindsight[server]"'


def missing() -> tuple[str, ...]:
    """The server's packages that are not installed. None of them is imported."""
    return tuple(name for name in SERVER if importlib.util.find_spec(name) is None)


def need_server(what: str) -> None:
    """Raises NotInstalled, with what to install, if the server's packages are not installed.

    what : the command, for the message
    """
    if sys.version_info < SERVER_PYTHON:
        needed, found = (".".join(map(str, version[:2])) for version in (SERVER_PYTHON, sys.version_info))
        raise NotInstalled(f"{what} needs Python {needed} or later, got {found}: with a later one, {_INSTALL}")
    if lacking := missing():
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise NotInstalled(f"{what} needs {', '.join(lacking[:3])}{more}, not installed here: {_INSTALL}")
