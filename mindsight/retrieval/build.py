"""A candidate pool from a folder of pictures and a function that embeds them, straight into a file in half precision.

Knows nothing of networks. Letters: N pictures, B of a batch, H, W pixels of a side.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mindsight.errors import BadRequest, Conflict, ModelMismatch
from mindsight.retrieval.pool import CandidatePool
from mindsight.retrieval.tensors import tensor_header

_SUFFIXES = {".png", ".jpg", ".jpeg"}
_PROGRESS = "progress.json"

Embed = Callable[[NDArray[np.uint8]], NDArray[Any]]


@dataclass(frozen=True)
class FolderPictures:
    """The PNG and JPEG files under a folder, in the order of their names.

    size_px : side of the square that each becomes: the shorter side resized to it, bicubic, and the middle cut out
    """

    folder: Path
    size_px: int

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Raises BadRequest (``pictures.none``)."""
        found = sorted(
            (path for path in self.folder.rglob("*") if path.suffix.lower() in _SUFFIXES),
            key=lambda path: path.relative_to(self.folder).as_posix(),
        )
        if not found:
            raise BadRequest("expected a folder with PNG or JPEG files, got none", code="pictures.none")
        return tuple(found)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """N names: the path in the folder, without its suffix. Raises BadRequest (``pictures.name``)."""
        names = [path.relative_to(self.folder).with_suffix("").as_posix() for path in self.files]
        twice = [name for name, after in itertools.pairwise(sorted(names)) if name == after]
        if twice:
            raise BadRequest(
                f"expected pictures whose names differ before the suffix, got {twice[0]} twice", code="pictures.name"
            )
        return tuple(names)

    @cached_property
    def sha256(self) -> tuple[str, ...]:
        """N digests of the files."""
        return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files)

    def read(self, place: int) -> NDArray[np.uint8]:
        """(H, W, 3) the picture upright, as sRGB. Raises BadRequest (``pictures.unreadable``)."""
        try:
            with Image.open(self.files[place]) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except OSError:
            raise BadRequest(
                f"expected a picture in {self.files[place].name}: it cannot be read", code="pictures.unreadable"
            ) from None
        square = ImageOps.fit(upright, (self.size_px, self.size_px), Image.Resampling.BICUBIC)
        return np.asarray(square, dtype=np.uint8)


def build_pool(pictures: FolderPictures, embed: Embed, out: Path, *, source: str, batch: int = 32) -> CandidatePool:
    """Embed every picture and write the pool, without ever holding more than one batch of it.

    embed : (B, H, W, 3) uint8 -> (B, D) or (B, tokens, channels)
    out : folder of the pool; it must not exist
    source : what ``embed`` is, in words: network, weights, convention of the pixels' values; kept in the pool

    What is shown of a candidate is what was embedded: the square. A run that was stopped goes on where it was, provided
    that pictures, source and batch are the same; else it begins anew.

    Raises Conflict (``pool.exists``), ModelMismatch (``pool.embedding``) where the function does not give one finite
    embedding for each picture, of one shape, that half precision can hold, and what reading the pictures raises.
    """
    if out.exists():
        raise Conflict(f"expected a new folder for the pool, {out.name} exists: name another", code="pool.exists")
    partial = out.with_name(out.name + ".partial")
    plan = hashlib.sha256(
        json.dumps([pictures.ids, pictures.sha256, pictures.size_px, source, batch]).encode()
    ).hexdigest()
    progress = _read_progress(partial, plan)
    for start in range(progress.done, len(pictures.ids), batch):
        places = range(start, min(start + batch, len(pictures.ids)))
        images_BHW3 = np.stack([pictures.read(place) for place in places])
        rows = _checked(embed(images_BHW3), [pictures.ids[place] for place in places], progress.shape)
        progress = _Progress(plan, places.stop, rows.shape[1:])
        _write(partial, len(pictures.ids), start, rows, images_BHW3)
        _write_progress(partial, progress)
    return _finish(partial, out, pictures, source)


@dataclass(frozen=True)
class _Progress:
    """plan : of what; done : pictures that are written; shape : of an embedding, empty before the first."""

    plan: str
    done: int = 0
    shape: tuple[int, ...] = ()


def _read_progress(partial: Path, plan: str) -> _Progress:
    if (partial / _PROGRESS).exists():
        found = json.loads((partial / _PROGRESS).read_text(encoding="utf-8"))
        if found["plan"] == plan:
            return _Progress(plan, found["done"], tuple(found["shape"]))
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "pool_images").mkdir(parents=True)
    return _Progress(plan)


def _write_progress(partial: Path, progress: _Progress) -> None:
    """After the embeddings are on the disk, in one step."""
    new = partial / (_PROGRESS + ".new")
    with new.open("w", encoding="utf-8") as file:
        file.write(json.dumps(asdict(progress)))
        file.flush()
        os.fsync(file.fileno())
    new.replace(partial / _PROGRESS)


def _checked(embeddings: NDArray[Any], ids: list[str], shape: tuple[int, ...]) -> NDArray[np.float16]:
    if embeddings.ndim not in (2, 3) or len(embeddings) != len(ids) or (shape and embeddings.shape[1:] != shape):
        raise ModelMismatch(
            f"expected {len(ids)} embeddings {shape or '(D,) or (tokens, channels)'}, got {embeddings.shape}",
            code="pool.embedding",
        )
    with np.errstate(over="ignore"):
        half = embeddings.astype(np.float16)
    good = np.isfinite(half.reshape(len(half), -1)).all(axis=1)
    if not good.all():
        raise ModelMismatch(
            f"expected finite embeddings within half precision (65,504), got others for {ids[int(np.argmin(good))]}",
            code="pool.embedding",
        )
    return half


def _write(partial: Path, n: int, start: int, rows: NDArray[np.float16], images_BHW3: NDArray[np.uint8]) -> None:
    header = tensor_header("embeddings", rows.dtype, (n, *rows.shape[1:]))
    with (partial / "pool.safetensors").open("r+b" if start else "wb") as file:
        file.write(header)
        file.seek(len(header) + start * rows[0].nbytes)
        file.write(rows.tobytes())
        file.flush()
        os.fsync(file.fileno())
    for place, image in enumerate(images_BHW3, start):
        Image.fromarray(image).save(partial / f"pool_images/{place:06d}.png")


def _finish(partial: Path, out: Path, pictures: FolderPictures, source: str) -> CandidatePool:
    names = [f"pool_images/{place:06d}.png" for place in range(len(pictures.ids))]
    index = {"version": 1, "ids": pictures.ids, "labels": None, "images": names, "source": source}
    index["image_sha256"] = pictures.sha256
    (partial / "pool.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    index["digest"] = CandidatePool.load(partial).digest
    (partial / "pool.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    partial.rename(out)
    (out / _PROGRESS).unlink()
    return CandidatePool.load(out)
