"""One sha256, of bytes, files and documents."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mindsight.files.digest import sha256_of, sha256_of_file, sha256_of_json


@pytest.mark.parametrize("n_bytes", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 19) + 7])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, n_bytes: int) -> None:
    content = bytes(i % 251 for i in range(n_bytes))
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == sha256_of(content) == hashlib.sha256(content).hexdigest()


def test_the_order_of_keys_does_not_count_and_their_values_do() -> None:
    assert sha256_of_json({"a": 1, "b": [2]}) == sha256_of_json({"b": [2], "a": 1})
    assert sha256_of_json({"a": 1, "b": [2]}) != sha256_of_json({"a": 2, "b": [2]})
    assert sha256_of_json({"a": 1}) == hashlib.sha256(b'{"a": 1}').hexdigest()  # in bundles that exist
