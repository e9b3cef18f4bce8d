"""A candidate pool from images and a function that embeds them, straight into a file in half precision.

Knows nothing of networks or of where images are stored. Letters: N images, B of them in a batch, H, W pixels.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindsight.encoders.sources import ImageSource, as_uint8
from mindsight.errors import BadRequest, Conflict, ModelMismatch
from mindsight.features import FeatureSpace
from mindsight.files.digest import sha256_of, sha256_of_json
from mindsight.files.durable import publish_folder, sync_file, sync_path
from mindsight.retrieval.pool import CandidatePool
from mindsight.weights.tensors import tensor_header

_PROGRESS = "progress.jsonl"
# room for the header, whose N is known at the end only: unreadable images are left out
_HEADER_BYTES = 256

Embed = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, and why."""

    id: str
    why: str


@dataclass(frozen=True)
class Progress:
    """``done`` of ``n`` images are processed; ``skipped`` are the unreadable ones of the latest batch."""

    done: int
    n: int
    skipped: tuple[Skipped, ...]


def build_pool(
    images: ImageSource,
    embed: Embed,
    out: Path,
    *,
    source: str,
    space: FeatureSpace | None = None,
    batch: int = 32,
    report: Callable[[Progress], None] | None = None,
) -> CandidatePool:
    """Embed every image and write the pool, without ever holding more than one batch of it.

    embed : (B, H, W, 3), uint8 or floats in [0, 1], as the images come -> (B, D) or (B, tokens, channels)
    out : folder of the pool; it must not exist
    source : what ``embed`` is, in words: network, weights, convention of the pixels' values; kept in the pool
    space : of the embeddings; None: not recorded
    report : called after every batch

    The image shown of a candidate is the one that was embedded: the square, in 8 bits. An image that cannot be read
    becomes no candidate; it is reported, and listed in ``pool.json``. An interrupted build is resumed if images,
    source and batch are the same, otherwise it starts again.

    Raises Conflict (``pool.exists``), ModelMismatch (``pool.embedding``) if the function does not give one finite
    embedding for each image, of one shape, that half precision can hold, and BadRequest (``pictures.none``) if no
    image can be read.
    """
    if out.exists():
        raise Conflict(f"expected a new folder for the pool, {out.name} exists: name another", code="pool.exists")
    partial = out.with_name(out.name + ".partial")
    plan = sha256_of_json([images.ids, images.stamp, source, batch])
    state = _State.resume(partial, plan)
    n = len(images.ids)
    for start in range(state.done, n, batch):
        skipped = _add_batch(state, partial, images, embed, range(start, min(start + batch, n)))
        if report is not None:
            report(Progress(state.done, n, tuple(skipped)))
    return _finish(partial, out, state, source, space)


@dataclass(frozen=True)
class _Batch:
    """A line of the progress file, written once the batch is on the disk.

    done : images processed so far; shape : of an embedding; the other fields concern this batch alone
    """

    done: int
    shape: tuple[int, ...]
    ids: list[str]
    sha256: list[str]
    skipped: list[dict[str, str]]


class _State:
    """What the progress file lists as written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done = 0
        self.shape: tuple[int, ...] = ()
        self.ids: list[str] = []
        self.sha256: list[str] = []
        self.skipped: list[dict[str, str]] = []

    @classmethod
    def resume(cls, partial: Path, plan: str) -> _State:
        """The state of an interrupted build of the same plan, otherwise that of a new one."""
        path = partial / _PROGRESS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        state = cls(path)
        whole = [line for line in lines if line.endswith("\n")]
        if whole and json.loads(whole[0]) == plan:
            for line in whole[1:]:
                state._take(_Batch(**json.loads(line)))
            path.write_text("".join(whole), encoding="utf-8")  # without a line that was cut short
            return state
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "pool_images").mkdir(parents=True)
        state._append(plan)
        return state

    def add(self, batch: _Batch) -> None:
        self._append(asdict(batch))
        self._take(batch)

    def _take(self, batch: _Batch) -> None:
        self.done, self.shape = batch.done, tuple(batch.shape)
        self.ids += batch.ids
        self.sha256 += batch.sha256
        self.skipped += batch.skipped

    def _append(self, line: object) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            sync_file(file)


def _add_batch(state: _State, partial: Path, images: ImageSource, embed: Embed, indices: range) -> list[Skipped]:
    """Embed and write these images; returns those that could not be read."""
    read, skipped = _read(images, indices)
    shape = state.shape
    if read:
        images_BHW3 = np.stack([image for _, image in read])
        rows = _checked(embed(images_BHW3), [id_ for id_, _ in read], shape)
        _write(partial, len(state.ids), rows, images_BHW3)
        shape = rows.shape[1:]
    state.add(
        _Batch(
            indices.stop,
            shape,
            [id_ for id_, _ in read],
            [sha256_of(image.tobytes()) for _, image in read],
            [asdict(one) for one in skipped],
        )
    )
    return skipped


def _read(images: ImageSource, indices: range) -> tuple[list[tuple[str, NDArray[Any]]], list[Skipped]]:
    read, skipped = [], []
    for i in indices:
        try:
            read.append((images.ids[i], images.read(i)))
        except BadRequest as error:
            skipped.append(Skipped(images.ids[i], str(error)))
    return read, skipped


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


def _write(partial: Path, start: int, rows: NDArray[np.float16], images_BHW3: NDArray[Any]) -> None:
    with (partial / "pool.safetensors").open("r+b" if start else "wb") as file:
        file.seek(_HEADER_BYTES + start * rows[0].nbytes)
        file.write(rows.tobytes())
        sync_file(file)
    for i, image in enumerate(images_BHW3, start):
        path = partial / f"pool_images/{i:06d}.png"
        Image.fromarray(as_uint8(image)).save(path)
        sync_path(path)


def _finish(partial: Path, out: Path, state: _State, source: str, space: FeatureSpace | None) -> CandidatePool:
    if not state.ids:
        raise BadRequest(
            f"expected images, got none that can be read, e.g. {state.skipped[0]['why']}", code="pictures.none"
        )
    dtype = np.dtype(np.float16)
    header = tensor_header("embeddings", dtype, (len(state.ids), *state.shape), _HEADER_BYTES)
    with (partial / "pool.safetensors").open("r+b") as file:
        file.write(header)
        file.truncate(len(header) + len(state.ids) * math.prod(state.shape) * dtype.itemsize)
    names = [f"pool_images/{i:06d}.png" for i in range(len(state.ids))]
    index = {"version": 1, "ids": state.ids, "labels": None, "images": names, "source": source}
    index |= {} if space is None else {"space": space.to_json()}
    index |= {"square_sha256": state.sha256, "skipped": state.skipped}
    (partial / "pool.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    index["digest"] = CandidatePool.load(partial).digest
    (partial / "pool.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    publish_folder(partial, out)
    (out / _PROGRESS).unlink()
    return CandidatePool.load(out)
