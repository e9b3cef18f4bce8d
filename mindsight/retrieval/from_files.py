"""A candidate pool from files: images, and the weights of the network that embeds them.

Knows nothing of brains or sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.encoders.sources import FolderPictures, Hdf5Pictures, Pictures
from mindsight.errors import BadRequest, NotFound
from mindsight.retrieval import CandidatePool, Progress, ReducedIndex, build_pool
from mindsight.retrieval.build import Embed
from mindsight.retrieval.sketch import INDEX

_HDF5 = {".h5", ".hdf5", ".hdf"}


def build_from_files(
    pictures: Path,
    out: Path,
    *,
    weights: Path | None = None,
    model: str = "",
    embedding: str = "tokens",
    values: str = "",
    rows: Path | None = None,
    batch: int = 32,
    device: str = "cpu",
    report: Callable[[Progress], None] | None = None,
) -> CandidatePool:
    """Build the pool, or resume a build that was stopped.

    pictures : a folder of PNG and JPEG, or an HDF5 file like NSD's
    weights : a checkpoint with an OpenCLIP image tower (``encoders.openclip``); None: the small encoder that ships with
        Mindsight and its generator
    model : open_clip's configuration, by name or as a JSON file
    embedding : ``tokens`` or ``pooled``
    values : ``mindeye2`` or ``clip``, how pixel values are scaled; empty: the first for tokens, the second for pooled
    rows : of an HDF5 file, a ``.npy`` with numbers of rows or one bool per row; None for all

    Raises NotFound (``pool.path``), BadRequest (``pool.options``) and what reading, embedding and writing raise.
    """
    for path in (pictures, weights, rows):
        if path is not None and not path.exists():
            raise NotFound(f"expected a file or folder, got {path.name}, which does not exist", code="pool.path")
    embed, size_px, source = _embedder(weights, model, embedding, values, device)
    return build_pool(_pictures(pictures, size_px, rows), embed, out, source=source, batch=batch, report=report)


def sketch_folder(folder: Path, size: int) -> ReducedIndex:
    """Write the sketches of a pool into its folder; a bundle that is made with the pool includes them."""
    index = ReducedIndex.build(CandidatePool.load(folder), np.random.default_rng(0), size)
    index.save(folder / INDEX)
    return index


def _embedder(weights: Path | None, model: str, embedding: str, values: str, device: str) -> tuple[Embed, int, str]:
    """The embedding function, the side of the square images it takes, and its description."""
    if weights is None:
        if model or values or embedding != "tokens":
            raise BadRequest(
                "expected --weights with --model, --values or --embedding pooled: the encoder that ships with Mindsight"
                " has none of these",
                code="pool.options",
            )
        from mindsight import assets
        from mindsight.encoders.demo import Encoder

        encoder = Encoder.load(assets.ENCODER)
        return encoder.tokens, encoder.image_size, f"Mindsight's own encoder, sha256 {encoder.digest}"
    from mindsight.encoders.openclip import EMBEDDINGS, VALUES, ImageTower

    wanted = next((name for name in EMBEDDINGS if name == embedding), None)
    taken = next(
        (name for name in VALUES if name == (values or ("mindeye2" if embedding == "tokens" else "clip"))), None
    )
    if wanted is None or taken is None:
        raise BadRequest(
            f"expected --embedding {' or '.join(EMBEDDINGS)} and --values {' or '.join(VALUES)}, got {embedding!r} and"
            f" {values!r}",
            code="pool.options",
        )
    tower = ImageTower.load(weights, model or "ViT-bigG-14", device)

    def embed(images_BHWC: NDArray[Any]) -> NDArray[np.float32]:
        return tower.embed(images_BHWC, wanted, taken)

    return embed, tower.size_px, tower.source(wanted, taken)


def _pictures(path: Path, size_px: int, rows: Path | None) -> Pictures:
    if path.suffix.lower() not in _HDF5:
        if rows is not None:
            raise BadRequest("expected an HDF5 file with --rows: a folder has none", code="pool.options")
        return FolderPictures(path, size_px)
    return Hdf5Pictures(path, size_px, None if rows is None else _rows(rows))


def _rows(path: Path) -> NDArray[np.int64]:
    try:
        held = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadRequest(f"expected a .npy of numbers in {path.name}: {error}", code="pool.options") from None
    if held.ndim != 1 or held.dtype.kind not in "biu":
        raise BadRequest(
            f"expected numbers of rows, or one bool per row, in {path.name}, got {held.dtype} {held.shape}",
            code="pool.options",
        )
    return np.flatnonzero(held) if held.dtype == np.bool_ else held.astype(np.int64)
