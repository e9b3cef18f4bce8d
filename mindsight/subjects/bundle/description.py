"""The description of a subject bundle, for processes that decode nothing: names, digests, sizes.

Light: neither arrays nor models are imported, so that the gateway can use it. The options and figures in the
description are defined by the rooms that they belong to.

A folder proves what it is by ``bundle.json``: the sha256 of each file, and a digest over all of the description. Files
of more than MAX_HASHED_BYTES are not read whole to open a bundle: their size is compared, and their content is verified
by ``mindsight pool verify``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mindsight.errors import ModelMismatch
from mindsight.files.digest import sha256_of_json
from mindsight.files.manifest import MAX_HASHED_BYTES, Proof, files_in, sums_of, verify_folder

VERSION = 1
DESCRIPTION, POOL = "bundle.json", "pool"
REPORT, REPORT_PAGE, REPORT_FIGURES = "report", "report.html", "report.json"  # of the calibration that made it
_PROOF = Proof("bundle", "the bundle", "restore the folder or calibrate again")


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
    kind: str
    subject: str
    created: str
    tr_s: float
    options: dict[str, Any]
    calibration: dict[str, Any]
    baseline: dict[str, Any] | None = None
    labels: str | None
    accuracy: dict[str, Any] | None
    sampling: dict[str, Any] | None = None
    fit: dict[str, Any] | None = None
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
        raise _PROOF.unreadable(DESCRIPTION, type(error).__name__) from None
    if version != VERSION:
        raise _PROOF.other_version(f"of version {VERSION}", repr(version))
    try:
        described = BundleDescription.model_validate(raw)
    except ValidationError as error:
        raise invalid_description(error) from None
    if described.digest != digest_of(raw):
        raise _PROOF.tampered(DESCRIPTION, "changed (its digest differs)")
    return described


def invalid_description(error: ValidationError) -> ModelMismatch:
    """The error for an invalid field."""
    first = error.errors()[0]
    return _PROOF.unreadable(DESCRIPTION, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def write_description(folder: Path, described: Mapping[str, Any]) -> None:
    """Describe the files that are in the folder now."""
    sizes = {name: (folder / name).stat().st_size for name in files_in(folder)}
    content = {
        **described,
        "files": sums_of(folder),
        "sizes": {name: size for name, size in sizes.items() if size > MAX_HASHED_BYTES},
    }
    content["digest"] = digest_of(content)
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def verify_files(folder: Path, described: BundleDescription, only: Collection[str] | None = None) -> None:
    """Compare the files with the description; only the names in ``only``, or all that are there.

    Raises ModelMismatch (``bundle.tampered``) if a file is missing, added or changed.
    """
    verify_folder(_PROOF, folder, described.files, document=DESCRIPTION, sizes=described.sizes, only=only)


def pool_size(folder: Path) -> int | None:
    """Candidates of a bundle's pool; None if the description cannot be read. Not verified."""
    try:
        return int(json.loads((folder / DESCRIPTION).read_bytes())["pool"]["size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def pool_ids(folder: Path) -> frozenset[str] | None:
    """Ids of a bundle's candidates; None if they cannot be read. Not verified."""
    return ids_in(folder / POOL)


def ids_in(pool: Path) -> frozenset[str] | None:
    """Ids of the candidates of a pool's folder; None if they cannot be read. Not verified."""
    path = pool / "pool.json"
    try:
        look = path.stat()
        return _ids_in(path, look.st_mtime_ns, look.st_size)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@functools.lru_cache(maxsize=8)
def _ids_in(path: Path, _mtime_ns: int, _size: int) -> frozenset[str]:
    """Cached, because every event that names an image needs them, and a pool of NSD's size has 73,000."""
    return frozenset(json.loads(path.read_bytes())["ids"])


def needs_length(folder: Path) -> bool:
    """Whether a bundle models drift over the planned run, so that a run's length must be known. Not verified."""
    try:
        return bool(json.loads((folder / DESCRIPTION).read_bytes())["options"]["mode"] == "fixed")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def digest_of(described: Mapping[str, Any]) -> str:
    content = {name: value for name, value in described.items() if name != "digest"}
    return sha256_of_json(content)
