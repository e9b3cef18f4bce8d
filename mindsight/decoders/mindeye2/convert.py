"""``mindsight convert mindeye2``: a released checkpoint becomes a folder of safetensors with a manifest.

Knows nothing of decoding. Tensors are read from the mapped source and written piece by piece, so that neither the
source nor the result is in memory as a whole; the folder appears under its name once all of it is on disk.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsight.decoders.mindeye2.adapter import RECOMPUTED, dtype_of, fitting_state
from mindsight.errors import Conflict, ModelMismatch, StorageFull
from mindsight.files.digest import sha256_of, sha256_of_file
from mindsight.files.durable import is_full, publish_folder
from mindsight.files.manifest import MANIFEST, Proof, read_manifest, verify_folder, write_manifest
from mindsight.weights.state_dict import read_state_dict, source_files

KIND, WEIGHTS = "mindeye2", "mindeye2.safetensors"
_PROOF = Proof("checkpoint", "MindEye2's weights", "restore the folder or convert the checkpoint again")
# Voxels of nsdgeneral at 1.8 mm (Allen et al. 2022), by which a ridge layer's subject is recognised
NSD_VOXELS = {15724: 1, 14278: 2, 15226: 3, 13153: 4, 13039: 5, 17907: 6, 12682: 7, 14386: 8}
_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_PIECE = 1 << 22  # numbers that are converted and written at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A ridge layer: its index, its voxels, and the NSD subject with that many (None if there is none)."""

    index: int
    voxels: int
    nsd: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """The manifest of a converted checkpoint.

    dtype : of the weights (rotary frequencies stay float32)
    source, source_sha256, source_bytes : name, digest and size of the source; for several files, the digest of their
        names and digests
    layout : every dimension
    dropped : keys that were left out because they are recomputed
    sha256 : of each file in the folder
    """

    dtype: str
    source: str
    source_sha256: str
    source_bytes: int
    layout: dict[str, Any]
    subjects: tuple[Subject, ...]
    dropped: tuple[str, ...]
    sha256: dict[str, str]


def convert_mindeye2(source: Path, out: Path, dtype: torch.dtype = torch.float32) -> Converted:
    """Write the folder ``out``: ``mindeye2.safetensors`` with the weights alone, and ``manifest.json``.

    Raises Conflict (``checkpoint.exists``) if ``out`` exists; ModelMismatch if the source is no MindEye2
    checkpoint, see ``load_mindeye2``, or a weight is not finite in ``dtype`` (``checkpoint.not_finite``); StorageFull
    if there is not enough space, and then leaves nothing behind.
    """
    if out.exists():
        raise Conflict(
            f"expected a new folder for the weights, {out.name} exists: name another or remove it",
            code="checkpoint.exists",
        )
    files = source_files(source)
    found = read_state_dict(source)
    layout, state = fitting_state(found)
    out.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(tensor.numel() * dtype_of(key, dtype).itemsize for key, tensor in state.items())
    if (free := shutil.disk_usage(out.parent).free) < needed:
        raise _full(needed, free)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        converted = Converted(
            dtype=_NAMES[dtype],
            source=source.name,
            source_sha256=_digest_of_files(files),
            source_bytes=sum(path.stat().st_size for path in files),
            layout=asdict(layout),
            subjects=tuple(
                Subject(index=index, voxels=voxels, nsd=NSD_VOXELS.get(voxels))
                for index, voxels in enumerate(layout.voxels)
            ),
            dropped=tuple(key for key in found if key.startswith(RECOMPUTED)),
            sha256={WEIGHTS: _write_safetensors(partial / WEIGHTS, state, dtype)},
        )
        described = asdict(converted)
        write_manifest(partial, KIND, described.pop("sha256"), **described)
        partial.chmod(0o755)
        publish_folder(partial, out)
    except (OSError, StorageFull) as error:
        if isinstance(error, StorageFull) or is_full(error):
            raise _full(needed, shutil.disk_usage(out.parent).free) from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return converted


def is_converted(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def verified_weights(folder: Path) -> Path:
    """The weights of a converted folder, or of one that ships with Mindsight, after every file's digest was checked.

    Raises ModelMismatch: ``checkpoint.unreadable``, ``checkpoint.version``, ``checkpoint.tampered``.
    """
    sums = read_manifest(_PROOF, folder, KIND)
    verify_folder(_PROOF, folder, sums, only={WEIGHTS, *sums})
    return folder / WEIGHTS


def _write_safetensors(path: Path, state: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    """Write the file and return its sha256. Wider numbers come first, so that all are aligned."""
    dtypes = {key: dtype_of(key, dtype) for key in sorted(state)}
    keys = sorted(dtypes, key=lambda key: -dtypes[key].itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key in keys:
        start, end = end, end + state[key].numel() * dtypes[key].itemsize
        header[key] = {"dtype": _NAMES[dtypes[key]], "shape": list(state[key].shape), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)

    def content() -> Iterator[bytes | memoryview]:
        yield struct.pack("<Q", len(head)) + head
        for key in keys:
            yield from _pieces(key, state[key], dtypes[key])

    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in content():
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _pieces(key: str, tensor: Tensor, dtype: torch.dtype) -> Iterator[bytes | memoryview]:
    """The bytes of a tensor in row-major order, converted a piece at a time."""
    flat = tensor.detach().reshape(-1)
    for start in range(0, flat.numel(), _PIECE):
        piece = flat[start : start + _PIECE].to(dtype)
        if not all(extreme.isfinite() for extreme in piece.aminmax()):
            raise ModelMismatch(
                f"expected finite weights, got others in {key} as {_NAMES[dtype]}: convert to float32; "
                "if that fails too, training diverged",
                code="checkpoint.not_finite",
            )
        yield piece.view(torch.uint8).numpy().data


def _digest_of_files(files: list[Path]) -> str:
    if len(files) == 1:
        return sha256_of_file(files[0])
    return sha256_of("".join(f"{path.name} {sha256_of_file(path)}\n" for path in files).encode())


def _full(needed: int, free: int) -> StorageFull:
    return StorageFull(
        f"expected {needed / 1e9:.1f} GB of room for the weights, got {free / 1e9:.1f}: make room, or convert to "
        "another disk or to half precision",
        needed_bytes=needed,
        free_bytes=free,
    )
