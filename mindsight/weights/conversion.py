"""A checkpoint becomes a folder of safetensors: streamed, in another dtype if asked, there whole or not at all.

Knows nothing of networks. Tensors are read from the mapped source and written piece by piece, so that neither the
source nor the result is in memory as a whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsight.errors import Conflict, ModelMismatch, StorageFull
from mindsight.files.digest import sha256_of, sha256_of_file
from mindsight.files.durable import is_full, publish_folder
from mindsight.shares import Count, uncounted

DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_PIECE = 1 << 22  # numbers that are converted and written at a time

DtypeOf = Callable[[str], torch.dtype]


@contextmanager
def new_folder(out: Path, needed_bytes: int) -> Iterator[Path]:
    """A folder to write into, which appears under its name once all of it is on the disk.

    Raises Conflict (``checkpoint.exists``) if ``out`` exists; StorageFull if there is not enough room, and then
    leaves nothing behind.
    """
    if out.exists():
        raise Conflict(
            f"expected a new folder for the weights, {out.name} exists: name another or remove it",
            code="checkpoint.exists",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(out.parent).free) < needed_bytes:
        raise _full(needed_bytes, free)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield partial
        partial.chmod(0o755)
        publish_folder(partial, out)
    except (OSError, StorageFull) as error:
        if error.code != "storage.closed" if isinstance(error, StorageFull) else is_full(error):
            raise _full(needed_bytes, shutil.disk_usage(out.parent).free) from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def size_of(state: Mapping[str, Tensor], dtype_of: DtypeOf) -> int:
    """Bytes of the tensors in these dtypes."""
    return sum(tensor.numel() * dtype_of(key).itemsize for key, tensor in state.items())


def write_streamed(path: Path, state: Mapping[str, Tensor], dtype_of: DtypeOf, count: Count = uncounted) -> str:
    """Write a safetensors file and return its sha256. Wider numbers come first, so that all are aligned.

    count : receives the bytes of each piece that is written

    Raises ModelMismatch (``checkpoint.not_finite``) if a weight is not finite in its dtype.
    """
    dtypes = {key: dtype_of(key) for key in sorted(state)}
    keys = sorted(dtypes, key=lambda key: -dtypes[key].itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key in keys:
        start, end = end, end + state[key].numel() * dtypes[key].itemsize
        header[key] = {"dtype": DTYPE_NAMES[dtypes[key]], "shape": list(state[key].shape), "data_offsets": [start, end]}
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
            count(len(piece))
    return digest.hexdigest()


def digest_of_files(files: list[Path], count: Count = uncounted) -> str:
    """sha256 of the file; of several, of their names and digests."""
    if len(files) == 1:
        return sha256_of_file(files[0], count)
    return sha256_of("".join(f"{path.name} {sha256_of_file(path, count)}\n" for path in files).encode())


def _pieces(key: str, tensor: Tensor, dtype: torch.dtype) -> Iterator[bytes | memoryview]:
    """The bytes of a tensor in row-major order, converted a piece at a time."""
    flat = tensor.detach().reshape(-1)
    for start in range(0, flat.numel(), _PIECE):
        piece = flat[start : start + _PIECE].to(dtype)
        if not all(extreme.isfinite() for extreme in piece.aminmax()):
            raise ModelMismatch(
                f"expected finite weights, got others in {key} as {DTYPE_NAMES[dtype]}: convert to float32; "
                "if that fails too, training diverged",
                code="checkpoint.not_finite",
            )
        yield piece.view(torch.uint8).numpy().data


def _full(needed: int, free: int) -> StorageFull:
    return StorageFull(
        f"expected {needed / 1e9:.1f} GB free for the weights, got {free / 1e9:.1f}: free space, or convert to "
        "another disk or to half precision",
        needed_bytes=needed,
        free_bytes=free,
    )
