"""A folder that proves what it is: a JSON document in it lists the sha256 of each file.

One verifier and one set of codes for all such folders, with the folder's kind in front (``bundle.tampered``):
``unreadable`` if the document cannot be read, ``version`` if it is of another format or kind, ``tampered`` if
a file is missing, added or changed. The document of weights is ``manifest.json``; a subject bundle's is its
description.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mindsight.errors import ModelMismatch
from mindsight.files.digest import sha256_of_file
from mindsight.files.durable import write_durably

FORMAT = 1
MANIFEST = "manifest.json"
MAX_HASHED_BYTES = 1 << 30  # of larger files the size is compared, if the document holds it


@dataclass(frozen=True, slots=True)
class Proof:
    """The names of one kind of folder in error messages.

    prefix : of the codes; what : "the bundle"; remedy : what to do if the folder is damaged
    """

    prefix: str
    what: str
    remedy: str

    def unreadable(self, document: str, why: str) -> ModelMismatch:
        return ModelMismatch(
            f"expected {self.what} with a valid {document}, got {why}: {self.remedy}", code=f"{self.prefix}.unreadable"
        )

    def other_version(self, expected: str, got: str) -> ModelMismatch:
        return ModelMismatch(
            f"expected {self.what} to be {expected}, got {got}: {self.remedy}", code=f"{self.prefix}.version"
        )

    def tampered(self, file: str, why: str) -> ModelMismatch:
        return ModelMismatch(
            f"expected {self.what} as written, {file} is {why}: {self.remedy}",
            code=f"{self.prefix}.tampered",
            file=file,
        )


def sums_of(folder: Path) -> dict[str, str]:
    """Path in the folder -> sha256, of every file that is there now."""
    return sums_of_files(folder, files_in(folder))


def sums_of_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Path in the folder -> sha256, of these files."""
    return {name: sha256_of_file(folder / name) for name in names}


def files_in(folder: Path) -> list[str]:
    """Paths in the folder, with forward slashes, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def verify_folder(
    proof: Proof,
    folder: Path,
    sums: Mapping[str, str],
    *,
    document: str = MANIFEST,
    sizes: Mapping[str, int] | None = None,
    only: Collection[str] | None = None,
) -> None:
    """Compare the files with their sha256.

    document : name of the file that holds ``sums``, which is not in them
    sizes : bytes of the files that are not read where they are larger than MAX_HASHED_BYTES
    only : these names, which must be listed; None: every name, and no other file may be there

    Raises ModelMismatch (``tampered``) if a file is missing, added or changed.
    """
    if only is None and (added := set(files_in(folder)) - {document, *sums}):
        raise proof.tampered(min(added), f"not in {document}")
    for name in sorted(sums if only is None else only):
        path, size = folder / name, (sizes or {}).get(name)
        if name not in sums or not (_is_inside(name) and path.is_file()):
            raise proof.tampered(name, "missing")
        if size is not None and size > MAX_HASHED_BYTES:
            unchanged = path.stat().st_size == size
        else:
            unchanged = sha256_of_file(path) == sums[name]
        if not unchanged:
            raise proof.tampered(name, "changed (its digest differs)")


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def write_manifest(folder: Path, kind: str, sums: Mapping[str, str], **described: Any) -> None:
    """Write ``manifest.json``: format, kind, a further description of the folder, and the sha256 of its files."""
    document = {"format": FORMAT, "kind": kind, **described, "sha256": dict(sums)}
    write_durably(folder / MANIFEST, json.dumps(document, indent=2).encode() + b"\n")


def read_manifest(proof: Proof, folder: Path, kind: str) -> dict[str, str]:
    """The sha256 of the folder's files, not yet verified. Raises ModelMismatch (``unreadable``, ``version``)."""
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
        found, sums = (document["format"], document["kind"]), dict(document["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise proof.unreadable(MANIFEST, f"one that cannot be read ({type(error).__name__})") from None
    if found != (FORMAT, kind):
        raise proof.other_version(f"a {kind} of format {FORMAT}", f"a {found[1]} of format {found[0]}")
    return sums
