"""Files for others: who can read them, and what a wrong key or a broken source leaves."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pyrage
import pytest

from mindsight.errors import BadRequest, NotInstalled, ServiceUnavailable
from mindsight.files.encrypted import for_recipients

PIECES = [b"", b"a" * 100_000, b"b", b"c" * 70_000]


def test_each_recipient_reads_what_was_written() -> None:
    theirs = [pyrage.x25519.Identity.generate() for _ in range(2)]
    target = io.BytesIO()
    for_recipients([str(one.to_public()) for one in theirs])(iter(PIECES), target)
    for one in theirs:
        assert pyrage.decrypt(target.getvalue(), [one]) == b"".join(PIECES)


@pytest.mark.parametrize("key", ["age1nobody", "", "AGE-SECRET-KEY-1", "ssh-ed25519 AAAA", "a@b.example"])
def test_what_is_no_public_key_is_refused_before_anything_is_written(key: str) -> None:
    with pytest.raises(BadRequest, match="public key") as refused:
        for_recipients([key])
    assert refused.value.code == "encryption.recipient"


def test_what_ends_the_pieces_is_told_as_it_is() -> None:
    """Else a connection that was lost would be an error of the encryption."""

    def lost() -> Iterator[bytes]:
        yield b"a" * 1000
        raise ServiceUnavailable("lost the connection")

    write = for_recipients([str(pyrage.x25519.Identity.generate().to_public())])
    with pytest.raises(ServiceUnavailable, match="lost the connection"):
        write(lost(), io.BytesIO())


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(NotInstalled, match=r"mindsight\[encryption\]"):
        for_recipients(["age1"])
