"""A candidate pool from files: images, and the weights of the network that embeds them.

Knows nothing of brains or sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.encoders.registry import EncoderOptions, load_encoder
from mindsight.encoders.sources import FolderImages, Hdf5Images, ImageSource
from mindsight.errors import BadRequest, NotFound
from mindsight.files.arrays import read_npy
from mindsight.retrieval import CandidatePool, Progress, ReducedIndex, build_pool
from mindsight.retrieval.sketch import INDEX

_HDF5 = {".h5", ".hdf5", ".hdf"}


def build_from_files(
    images: Path,
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

    images : a folder of PNG and JPEG, or an HDF5 file like NSD's
    weights : a checkpoint with an OpenCLIP image tower (``encoders.openclip``); None: the small encoder that ships with
        Mindsight and its generator
    model : open_clip's configuration, by name or as a JSON file
    embedding : ``tokens`` or ``pooled``
    values : ``mindeye2`` or ``clip``, how pixel values are scaled; empty: the first for tokens, the second for pooled
    rows : of an HDF5 file, a ``.npy`` with numbers of rows or one bool per row; None for all

    Raises NotFound (``pool.path``), BadRequest (``pool.options``) and what reading, embedding and writing raise.
    """
    for path in (images, weights, rows):
        if path is not None and not path.exists():
            raise NotFound(f"expected a file or folder, got {path.name}, which does not exist", code="pool.path")
    options = EncoderOptions(weights=weights, model=model, embedding=embedding, values=values, device=device)
    encoder = load_encoder("demo" if weights is None else "openclip", options)
    return build_pool(
        open_images(images, encoder.image_size, rows),
        encoder.encode,
        out,
        source=encoder.source,
        space=encoder.space,
        batch=batch,
        report=report,
    )


def sketch_folder(folder: Path, size: int) -> ReducedIndex:
    """Write the sketches of a pool into its folder; a bundle that is made with the pool includes them."""
    index = ReducedIndex.build(CandidatePool.load(folder), np.random.default_rng(0), size)
    index.save(folder / INDEX)
    return index


def open_images(path: Path, size_px: int, rows: Path | None = None) -> ImageSource:
    """The images of a folder or an HDF5 file, as squares of this side; see ``build_from_files``."""
    if path.suffix.lower() not in _HDF5:
        if rows is not None:
            raise BadRequest("expected an HDF5 file with --rows: a folder has none", code="pool.options")
        return FolderImages(path, size_px)
    return Hdf5Images(path, size_px, None if rows is None else _rows(rows))


def _rows(path: Path) -> NDArray[np.int64]:
    try:
        held = read_npy(path)
    except (OSError, ValueError) as error:
        raise BadRequest(f"expected a .npy of numbers in {path.name}: {error}", code="pool.options") from None
    if held.ndim != 1 or held.dtype.kind not in "biu":
        raise BadRequest(
            f"expected numbers of rows, or one bool per row, in {path.name}, got {held.dtype} {held.shape}",
            code="pool.options",
        )
    return np.flatnonzero(held) if held.dtype == np.bool_ else held.astype(np.int64)
