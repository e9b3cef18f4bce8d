"""JavaScript of others, as published: every file is in ``vendor.lock`` with its digest, and is what the lock says."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "service" / "dashboard" / "vendor"


def test_every_vendored_file_is_locked_and_unchanged() -> None:
    packages = json.loads((VENDOR / "vendor.lock").read_text())
    locked = {name: digest for package in packages for name, digest in package["files"].items()}
    found = {
        str(path.relative_to(VENDOR)): "sha256-" + base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "vendor.lock"
    }
    assert found == locked
    for package in packages:
        assert package["integrity"].startswith("sha512-")
        assert any(name.endswith("LICENSE") for name in package["files"]), "its licence travels with it"
        assert package.keys() == {"name", "version", "licence", "source", "integrity", "files"}
