from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from mindsight.errors import Diverged
from mindsight.files.chain import FIRST, Chain


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path / "audit" / "log.jsonl")
    for number in range(5):
        made.append({"n": number})
    return made


def test_what_was_appended_is_there_in_order_and_private(chain: Chain) -> None:
    links = list(chain.verify())
    assert [link.record for link in links] == [{"n": number} for number in range(5)]
    assert [link.number for link in links] == [1, 2, 3, 4, 5]
    assert stat.S_IMODE(chain.path.stat().st_mode) == 0o600
    assert list(Chain(chain.path.with_name("none")).verify()) == []


def changed(line: bytes) -> bytes:
    held = json.loads(line)
    held["record"]["n"] = 99
    return json.dumps(held).encode() + b"\n"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: [lines[0], changed(lines[1]), *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        lambda lines: [*lines[:2], b"{}\n", *lines[3:]],
        lambda lines: [*lines[:2], b"\n", *lines[2:]],
    ],
)  # fmt: skip
def test_any_change_shows(chain: Chain, tamper: object) -> None:
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(b"".join(tamper(lines)))  # type: ignore[operator]
    with pytest.raises(Diverged, match="audit log"):
        list(chain.verify())


def test_a_line_that_was_signed_again_shows_in_the_next(chain: Chain) -> None:
    lines = chain.path.read_bytes().splitlines(keepends=True)
    other = Chain(chain.path.with_name("other.jsonl"))
    for number in (0, 1, 99):
        other.append({"n": number})
    forged = other.path.read_bytes().splitlines(keepends=True)[2]
    chain.path.write_bytes(b"".join([*lines[:2], forged, *lines[3:]]))
    with pytest.raises(Diverged, match="line 4"):
        list(chain.verify())


def test_half_a_line_of_a_machine_that_stopped_is_replaced(chain: Chain) -> None:
    with chain.path.open("ab") as file:
        file.write(b'{"number": 6, "bef')
    link = chain.append({"n": 5})
    assert (link.number, [one.record["n"] for one in chain.verify()]) == (6, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("left", [b'{"number": 6, "bef', b'{"number": 6}'])
def test_half_a_line_is_no_line_and_no_change(chain: Chain, left: bytes) -> None:
    size = chain.path.stat().st_size
    assert chain.ends() == (size, 0)
    with chain.path.open("ab") as file:
        file.write(left)
    assert [link.number for link in chain.verify()] == [1, 2, 3, 4, 5]
    assert chain.ends() == (size, len(left))
    copy = Chain(chain.path.with_name("copy.jsonl"))
    chain.copy(copy.path)
    assert copy.ends() == (size, 0)
    assert list(copy.verify()) == list(chain.verify())
    with chain.path.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(Diverged, match="audit log"):
        list(chain.verify())


def test_many_may_append(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "log.jsonl")

    def append() -> None:
        for number in range(20):
            Chain(chain.path).append({"n": number})

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    links = list(chain.verify())
    assert len(links) == 80
    assert FIRST not in {link.digest for link in links}
