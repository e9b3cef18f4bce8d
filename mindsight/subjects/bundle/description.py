"""What a subject bundle's folder says of itself, for those who decode nothing: names, digests, sizes.

Light: neither arrays nor models are imported, so that the gateway may use it. What the options and figures in the
description mean is known to the rooms that they belong to.

A folder proves what it is by ``bundle.json``: the sha256 of each file, and a digest over all of the description. Files
of more than MAX_HASHED_BYTES are not read whole to open a bundle: their size is compared, and their content is verified
by ``mindsight pool verify``.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mindsight.errors import ModelMismatch

VERSION = 1
DESCRIPTION, POOL = "bundle.json", "pool"
MAX_HASHED_BYTES = 1 << 30

Kind = Literal["linear", "mindeye2"]


class PoolInfo(BaseModel):
    """size : candidates. digest : sha256 of the pool's ids, labels and embeddings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    digest: str


class BundleDescription(BaseModel):
    """``bundle.json``. See ``Bundle`` for what the fields mean.

    files : path in the folder -> sha256
    sizes : path -> bytes, of the files that are too large to be hashed when a bundle is opened
    digest : sha256 of all else in the description
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    kind: Kind
    subject: str
    created: str
    tr_s: float
    options: dict[str, Any]
    calibration: dict[str, Any]
    baseline: dict[str, Any] | None = None
    labels: str | None
    accuracy: dict[str, Any] | None
    pool: PoolInfo
    files: dict[str, str]
    sizes: dict[str, int] = {}
    digest: str


def read_description(folder: Path) -> BundleDescription:
    """Raises ModelMismatch: ``bundle.unreadable``, ``bundle.version``, ``bundle.tampered``."""
    try:
        raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version = raw["version"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelMismatch(
            f"expected a bundle folder with a {DESCRIPTION}: {type(error).__name__}", code="bundle.unreadable"
        ) from None
    if version != VERSION:
        raise ModelMismatch(
            f"expected a bundle of version {VERSION}, got {version!r}: calibrate again", code="bundle.version"
        )
    try:
        described = BundleDescription.model_validate(raw)
    except ValidationError as error:
        raise invalid_description(error) from None
    if described.digest != digest_of(raw):
        raise _tampered(DESCRIPTION, "not what its digest says")
    return described


def invalid_description(error: ValidationError) -> ModelMismatch:
    """A field that is not what it should be, as an error of ours."""
    first = error.errors()[0]
    return ModelMismatch(
        f"expected a valid {DESCRIPTION}: {'.'.join(map(str, first['loc']))}: {first['msg']}", code="bundle.unreadable"
    )


def write_description(folder: Path, described: Mapping[str, Any]) -> None:
    """Describe the files that are in the folder now."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    sizes = {names[path]: path.stat().st_size for path in paths}
    content = {
        **described,
        "files": {names[path]: sha256_of(path) for path in paths},
        "sizes": {name: size for name, size in sizes.items() if size > MAX_HASHED_BYTES},
    }
    content["digest"] = digest_of(content)
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def verify_files(folder: Path, described: BundleDescription, only: Collection[str] | None = None) -> None:
    """Compare the files with the description; of ``only`` these names, or of all that are there.

    Raises ModelMismatch (``bundle.tampered``) where a file is missing, added, or not what it was.
    """
    if only is None:
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {DESCRIPTION}
        for name in sorted(present ^ set(described.files)):
            raise _tampered(name, "not in the manifest" if name in present else "missing")
    for name in sorted(described.files if only is None else only):
        path, size = folder / name, described.sizes.get(name)
        if name not in described.files or not path.is_file():
            raise _tampered(name, "missing")
        if size is not None and size > MAX_HASHED_BYTES:
            unchanged = path.stat().st_size == size
        else:
            unchanged = sha256_of(path) == described.files[name]
        if not unchanged:
            raise _tampered(name, "not what its digest says")


def pool_size(folder: Path) -> int | None:
    """Candidates of a bundle's pool; None where the description cannot be read. Not verified."""
    try:
        return int(json.loads((folder / DESCRIPTION).read_bytes())["pool"]["size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def pool_ids(folder: Path) -> frozenset[str] | None:
    """Ids of a bundle's candidates; None where they cannot be read. Not verified."""
    path = folder / POOL / "pool.json"
    try:
        look = path.stat()
        return _ids_in(path, look.st_mtime_ns, look.st_size)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@functools.lru_cache(maxsize=8)
def _ids_in(path: Path, _mtime_ns: int, _size: int) -> frozenset[str]:
    """Every event that names a picture asks for them, and a pool of NSD's size has 73,000."""
    return frozenset(json.loads(path.read_bytes())["ids"])


def needs_length(folder: Path) -> bool:
    """Whether a bundle models drift over the planned run, so that a run's length must be known. Not verified."""
    try:
        return bool(json.loads((folder / DESCRIPTION).read_bytes())["options"]["mode"] == "fixed")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def digest_of(described: Mapping[str, Any]) -> str:
    content = {name: value for name, value in described.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tampered(name: str, what: str) -> ModelMismatch:
    return ModelMismatch(
        f"expected the bundle as it was written, {name} is {what}: restore the folder or calibrate again",
        code="bundle.tampered",
        file=name,
    )
