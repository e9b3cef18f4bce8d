"""One section of gpu.py, in a process of its own: ``gpu_child.py SECTION KNOWN [--small]``, KNOWN as JSON."""

from __future__ import annotations

import importlib
import json
import sys

from gpu_bench import Bench

MODULES = {
    "ceilings": "gpu_decoding",
    "decoding": "gpu_decoding",
    "motion": "gpu_motion",
    "pictures": "gpu_pictures",
    "compiled": "gpu_pictures",
    "speed_ups": "gpu_speed_ups",
    "whole": "gpu_speed_ups",
}


def main() -> None:
    section, known, *others = sys.argv[1:]
    # imported here, so that a package that one section lacks costs that section only
    getattr(importlib.import_module(MODULES[section]), section)(Bench("--small" in others, json.loads(known)))


if __name__ == "__main__":
    main()
