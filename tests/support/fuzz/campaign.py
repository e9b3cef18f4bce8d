"""A number of changed inputs through one reader: only our own errors, in bounded time and memory.

Every try follows from the reader's name and its number, so that a finding can be made again alone.
"""

from __future__ import annotations

import contextlib
import random
import re
import resource
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mindsight.errors import MindsightError
from support.fuzz.mutate import Mutate, mutate_bytes

MAX_S = 0.25
MAX_BYTES = 200 * 2**20
_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


@dataclass(frozen=True, slots=True)
class Reader:
    """Something that reads what others wrote.

    seeds : inputs that it reads
    read : reads one
    """

    seeds: list[bytes]
    read: Callable[[bytes], object]
    mutate: Mutate = mutate_bytes


@dataclass(slots=True)
class Campaign:
    """Tries, of which so many were refused, and what was found: a line each, with the number of the try."""

    n: int = 0
    n_refused: int = 0
    findings: list[str] = field(default_factory=list)


def input_of(name: str, reader: Reader, number: int) -> bytes:
    """The changed input of a try."""
    random_ = random.Random(f"{name}-{number}")
    return reader.mutate(random_, random_.choice(reader.seeds))


def run(name: str, reader: Reader, numbers: range, *, max_findings: int = 10) -> Campaign:
    campaign = Campaign()
    for number in numbers:
        content = input_of(name, reader, number)
        before = peak_from_here()
        started_s = time.process_time()
        fault = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                reader.read(content)
        except MindsightError:
            campaign.n_refused += 1
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"[:200]
        taken_s = time.process_time() - started_s
        grown = peak() - before
        if taken_s > MAX_S and fault is None and _again_s(reader, content) > MAX_S:
            fault = f"it took {taken_s:.2f} s"
        if grown > MAX_BYTES:
            fault = f"it took {grown / 2**20:.0f} MB"
        campaign.n += 1
        if fault is not None:
            campaign.findings.append(f"{name} {number}: {fault}")
            if len(campaign.findings) >= max_findings:
                break
    return campaign


def peak_from_here() -> int:
    """Bytes of memory held now; the peak is counted from here where the system lets it be reset (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The most bytes of memory held since the peak was last reset."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found is not None:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def _again_s(reader: Reader, content: bytes) -> float:
    """A second try: the first may have compiled or imported something."""
    started_s = time.process_time()
    with contextlib.suppress(Exception):
        reader.read(content)
    return time.process_time() - started_s
