"""Changed inputs through every reader, in short; ``make fuzz`` tries a million of each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.fuzz.campaign import MAX_S, Campaign, Reader, input_of, run
from support.fuzz.mutate import as_before
from support.fuzz.readers import every_reader

N_SHORT, N_LONG = 40, 10_000
TESTS = Path(__file__).resolve().parent
LARGE = """
from support.fuzz.campaign import Reader, run

held = [b"x" * (600 * 2**20)]
held.clear()  # the process has held more before

def large(_):
    held[:] = [b"x" * (300 * 2**20)]

print(*run("large", Reader([b"abc"], large), range(1)).findings)
"""


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    return every_reader(tmp_path_factory.mktemp("fuzz"), data if data.is_dir() else None)


def tried(readers: dict[str, Reader], n: int) -> dict[str, Campaign]:
    return {name: run(name, reader, range(n)) for name, reader in readers.items()}


def test_what_is_not_changed_is_read(readers: dict[str, Reader]) -> None:
    for name, reader in readers.items():
        found = run(name, Reader(reader.seeds, reader.read, as_before), range(4))
        assert (found.findings, found.n_refused) == ([], 0), name


def test_changed_inputs_are_read_or_refused_by_our_own_errors(readers: dict[str, Reader]) -> None:
    found = tried(readers, N_SHORT)
    assert [line for campaign in found.values() for line in campaign.findings] == []


@pytest.mark.slow
def test_ten_thousand_changed_inputs_of_each_reader(readers: dict[str, Reader]) -> None:
    found = tried(readers, N_LONG)
    assert [line for campaign in found.values() for line in campaign.findings] == []


def test_a_try_can_be_made_again(readers: dict[str, Reader]) -> None:
    for name, reader in readers.items():
        assert input_of(name, reader, 7) == input_of(name, reader, 7)
    assert len({input_of("nifti", readers["nifti"], number) for number in range(20)}) > 15


def test_a_reader_that_lets_another_error_through_is_found() -> None:
    def broken(content: bytes) -> None:
        raise KeyError(content[0])

    assert "KeyError" in run("broken", Reader([b"abc"], broken), range(3)).findings[0]


@pytest.mark.slow
def test_a_reader_that_takes_too_long_is_found() -> None:
    def slow(_: bytes) -> None:
        end_s = time.process_time() + 2 * MAX_S
        while time.process_time() < end_s:
            pass

    assert "it took 0." in run("slow", Reader([b"abc"], slow), range(1)).findings[0]


@pytest.mark.slow
def test_a_reader_that_takes_too_much_memory_is_found() -> None:
    """In a process of its own: what other tests give back meanwhile would hide it."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (TESTS.parent, TESTS)))},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert re.fullmatch(r"large 0: it took 3\d\d MB\n", done.stdout), done.stdout
