"""sha256 in hexadecimal: of bytes, of a file, of a JSON document.

Knows nothing of what the digests prove.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mindsight.shares import Count, uncounted

_PIECE_BYTES = 1 << 18


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path, count: Count = uncounted) -> str:
    """A piece in memory at a time. count : receives the bytes of each"""
    digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while n_bytes := file.readinto(piece):
            digest.update(piece[:n_bytes])
            count(n_bytes)
    return digest.hexdigest()


def sha256_of_json(document: Any) -> str:
    """Independent of the order of keys."""
    return sha256_of(json.dumps(document, sort_keys=True).encode())
