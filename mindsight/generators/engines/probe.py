"""A plan is tried in a process of its own before ours takes it: on some plans TensorRT ends the process.

``python -P -m mindsight.generators.engines.probe FOLDER`` prints one line of JSON: why the folder's plans cannot be run
here, or null.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from mindsight.errors import ModelMismatch
from mindsight.generators.engines.folder import read_description
from mindsight.processes import module_command

_DEADLINE_S = 300.0  # reading 5 GB from a slow disk, and compiling for the card
_REMEDY = "build it again, or use another engine"


def probe(folder: Path) -> None:
    """Raises ModelMismatch (``engine.unusable``) if the folder's plans cannot be run on this machine."""
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            module_command(__name__, str(folder)), capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _unusable(f"no answer within {_DEADLINE_S:.0f} s") from None
    if done.returncode < 0:
        raise _unusable(f"a trial that was ended by {signal.Signals(-done.returncode).name}")
    try:
        why = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()
        raise _unusable(f"a trial that failed with {last[-1] if last else 'no message'!r}") from None
    if why is not None:
        raise ModelMismatch(why, code="engine.unusable")


def _unusable(what: str) -> ModelMismatch:
    return ModelMismatch(f"expected an engine that runs here, got {what}: {_REMEDY}", code="engine.unusable")


def _main(folder: Path) -> None:
    from mindsight.generators.engines.tensorrt import open_alone

    print(json.dumps(open_alone(folder, list(read_description(folder).graphs))))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
