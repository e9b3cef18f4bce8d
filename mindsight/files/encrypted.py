"""Files for others, encrypted for those who are to read them: age's format (age-encryption.org/v1), by pyrage.

Knows nothing of what is in them. What is encrypted is never written in the open, not even in between.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from mindsight.errors import BadRequest, NotInstalled

Write = Callable[[Iterator[bytes], IO[bytes]], None]
_INSTALL = 'pip install "mindsight[encryption]"'


def for_recipients(recipients: Sequence[str]) -> Write:
    """What writes pieces into a file that each of the recipients can decrypt, and nobody else.

    recipients : their public keys, ``age1...`` or a line of OpenSSH (``ssh-ed25519 ...``, ``ssh-rsa ...``)

    Raises NotInstalled, BadRequest (``encryption.recipient``).
    """
    try:
        import pyrage
    except ImportError:
        raise NotInstalled(f"encryption needs pyrage, not installed here: {_INSTALL}") from None
    keys = []
    for recipient in recipients:
        kind = pyrage.ssh.Recipient if recipient.startswith("ssh-") else pyrage.x25519.Recipient
        try:
            keys.append(kind.from_str(recipient.strip()))
        except pyrage.RecipientError:
            raise BadRequest(
                f"expected a recipient's public key (age1... or ssh-ed25519 ...), got {len(recipient)}"
                " characters that are none: ask them for it (age-keygen makes one)",
                code="encryption.recipient",
            ) from None

    def write(pieces: Iterator[bytes], target: IO[bytes]) -> None:
        source = _Source(pieces)
        try:
            pyrage.encrypt_io(source, target, keys)
        except Exception:
            if source.fault is not None:
                raise source.fault from None
            raise

    return write


class _Source(io.RawIOBase):
    """Pieces as something to read from. fault : what ended them, which the library would tell as an error of its own"""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, b""
        self.fault: Exception | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            while not self._left:
                self._left = next(self._pieces)
        except StopIteration:
            return b""
        except Exception as error:
            self.fault = error
            raise
        size = len(self._left) if size < 0 else size
        given, self._left = self._left[:size], self._left[size:]
        return given
