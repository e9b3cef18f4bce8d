"""The candidate pool: the images or labels that a beta is ranked against.

Knows nothing of brains. Letters: N candidates, D numbers of one candidate's embedding, all tokens laid end to end.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.events import candidate_of
from mindsight.features import FeatureSpace
from mindsight.files.manifest import Proof
from mindsight.moved import OldName
from mindsight.weights.tensors import map_tensors, tensor_header

_TENSORS, _INDEX, _IMAGES = "pool.safetensors", "pool.json", "pool_images"
_PROOF = Proof("pool", "the pool", "build it again")
CHUNK_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class CandidatePool:
    """Candidates in a fixed order, each with an embedding.

    ids : N names, all different
    embeddings : (N, D) or (N, tokens, channels), float16 or float32; may be a memory map
    labels : N class labels; candidates of one label are equally right if labels are decoded
    images : N PNG files, None if a candidate has no image
    source : what made the embeddings, in words; None if it was not recorded
    recorded_digest : the digest in the folder that the pool was read from; ``verify`` checks it
    recorded_space : of the embeddings; None if it was not recorded

    Raises ModelMismatch (``pool.invalid``) if these do not fit together.
    """

    ids: tuple[str, ...]
    embeddings: NDArray[Any]
    labels: tuple[str, ...] | None = None
    images: tuple[Path | None, ...] | None = None
    source: str | None = None
    recorded_digest: str | None = None
    recorded_space: FeatureSpace | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.embeddings.dtype not in (np.float16, np.float32) or self.embeddings.ndim not in (2, 3):
            raise ModelMismatch(
                "expected embeddings (N, D) or (N, tokens, channels) of float16 or float32, got shape"
                f" {self.embeddings.shape} of {self.embeddings.dtype}",
                code="pool.invalid",
            )
        lengths = {len(self.embeddings), len(self.labels or self.ids), len(self.images or self.ids)}
        if n == 0 or lengths != {n} or len(set(self.ids)) != n:
            raise ModelMismatch(
                f"expected different ids, one embedding, label and image for each, got {len(set(self.ids))} different"
                f" ids of {n} and {len(self.embeddings)} embeddings",
                code="pool.invalid",
            )
        if self.recorded_space is not None and self.recorded_space.shape != self.token_shape:
            raise ModelMismatch(
                f"expected embeddings {self.recorded_space.shape} in the space {self.recorded_space.name}, got"
                f" {self.token_shape}",
                code="pool.invalid",
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of one candidate's embedding, (D,) or (tokens, channels)."""
        return self.embeddings.shape[1:]

    @property
    def space(self) -> FeatureSpace:
        """The embeddings' space; without a name if the pool was made before spaces were recorded."""
        return self.recorded_space or FeatureSpace("", self.token_shape)

    @property
    def flat_ND(self) -> NDArray[Any]:
        """(N, D) the embeddings, a view."""
        return self.embeddings.reshape(len(self), -1)

    @property
    def rows_per_chunk(self) -> int:
        """How many candidates to read at a time, so that a pool larger than memory streams through it."""
        return max(1, CHUNK_BYTES // (4 * math.prod(self.token_shape)))

    @property
    def digest(self) -> str:
        """sha256 over ids, labels and embeddings: pools with the same digest rank alike. A pool from a folder
        has the digest that is recorded there, so that a pool larger than memory is not read for it.
        """
        return self.recorded_digest or self._digest

    def verify(self) -> None:
        """Read the whole pool and compare. Raises ModelMismatch (``pool.tampered``)."""
        if self.digest != self._digest:
            raise _PROOF.tampered(_TENSORS, "changed (its digest, ids or labels differ)")

    @cached_property
    def _digest(self) -> str:
        head = {
            "ids": self.ids,
            "labels": self.labels,
            "dtype": str(self.embeddings.dtype),
            "shape": self.embeddings.shape,
        }
        sha = hashlib.sha256(json.dumps(head).encode())
        for chunk in self.chunks():
            sha.update(chunk.data)
        return sha.hexdigest()

    def chunks(self) -> Iterator[NDArray[Any]]:
        """The embeddings in chunks (n, D) of ``rows_per_chunk`` candidates."""
        for start in range(0, len(self), self.rows_per_chunk):
            yield np.ascontiguousarray(self.flat_ND[start : start + self.rows_per_chunk])

    @cached_property
    def _index_of_id(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.ids)}

    def index_of(self, candidate: str) -> int:
        """Row of the candidate. Raises ModelMismatch (``pool.unknown_candidate``)."""
        if candidate not in self._index_of_id:
            raise ModelMismatch(
                f"expected one of {len(self)} candidates, got {candidate!r}", code="pool.unknown_candidate"
            )
        return self._index_of_id[candidate]

    place = OldName("index_of")

    def named(self, label: str) -> str:
        """The id of the candidate that an experiment's label names: by the id, or by the name of the image's file,
        with or without its folder. A label that names none is returned unchanged.
        """
        return candidate_of(label, self._index_of_id)

    def save(self, folder: Path) -> list[Path]:
        """Write embeddings, index and images into the folder; returns the files.

        The file of a pool that was read gets a second name if the file system allows it: bundles with the same pool
        then share it, on the disk and in the workers' memory. It is never written into.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not self._link(folder / _TENSORS):
            with (folder / _TENSORS).open("wb") as file:
                file.write(tensor_header("embeddings", self.embeddings.dtype, self.embeddings.shape))
                for chunk in self.chunks():
                    file.write(chunk.data)
        names: list[str | None] = []
        files = [folder / _TENSORS, folder / _INDEX]
        for i, image in enumerate(self.images or (None,) * len(self)):
            names.append(None if image is None else f"{_IMAGES}/{i:06d}.png")
            if image is not None:
                (folder / _IMAGES).mkdir(exist_ok=True)
                files.append(folder / f"{_IMAGES}/{i:06d}.png")
                files[-1].write_bytes(image.read_bytes())
        index = {"version": 1, "ids": self.ids, "labels": self.labels, "images": names}
        described = {**index, "source": self.source, "digest": self._digest}
        if self.recorded_space is not None:
            described["space"] = self.recorded_space.to_json()
        (folder / _INDEX).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
        return files

    def _link(self, target: Path) -> bool:
        """Whether the embeddings are those of a whole file of a pool, and now have this name too."""
        own = getattr(self.embeddings, "filename", None)
        if own is None or Path(own).name != _TENSORS or not Path(own).exists():
            target.unlink(missing_ok=True)  # it may be mapped, or have other names: never written over
            return False
        held = map_tensors(Path(own))
        whole = set(held) == {"embeddings"} and held["embeddings"].shape == self.embeddings.shape
        whole = whole and self.embeddings.flags.c_contiguous
        if whole and target.exists() and target.samefile(own):
            return True
        target.unlink(missing_ok=True)
        if not whole:
            return False
        try:
            target.hardlink_to(own)
        except OSError:  # another disk, or a file system without links
            return False
        return True

    @classmethod
    def load(cls, folder: Path) -> CandidatePool:
        """Read a pool; its embeddings stay in the file. Raises ModelMismatch (``pool.invalid``, ``model.file``)."""
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            embeddings = map_tensors(folder / _TENSORS)["embeddings"]
            ids, labels = _names(index["ids"]), None if index["labels"] is None else _names(index["labels"])
            if not isinstance(index["images"], list) or len(index["images"]) != len(ids):
                raise ValueError("expected an image, or null, of each")
            images = tuple(None if name is None else folder / name for name in index["images"])
            space = None if index.get("space") is None else FeatureSpace.from_json(index["space"])
            inside = folder.resolve()
            strays = [image for image in images if image is not None and inside not in image.resolve().parents]
            source, digest = (_name(index.get(key)) for key in ("source", "digest"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RuntimeError) as error:
            raise ModelMismatch(
                f"expected a pool of {_INDEX} and {_TENSORS}: {type(error).__name__}", code="pool.invalid"
            ) from None
        if strays:
            raise ModelMismatch(
                f"expected images in the pool's own folder, got {len(strays)} elsewhere", code="pool.invalid"
            )
        return cls(
            ids,
            embeddings,
            labels,
            images,
            source,
            digest,
            space,
        )


def _names(held: list[str]) -> tuple[str, ...]:
    """Raises TypeError if something else than names is held, ValueError for one that no file could hold."""
    if not isinstance(held, list) or not all(isinstance(name, str) for name in held):
        raise TypeError("expected a list of names")
    for name in held:
        name.encode()
    return tuple(held)


def _name(held: str | None) -> str | None:
    return None if held is None else _names([held])[0]
