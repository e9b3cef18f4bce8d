"""The part of a subject bundle that is ranked: the candidate pool and its index, whose files stay memory-mapped.

Bundles with the same pool share its file, see ``CandidatePool.save``.
"""

from __future__ import annotations

from pathlib import Path

from mindsight.retrieval import CandidatePool, ReducedIndex
from mindsight.retrieval.sketch import INDEX
from mindsight.subjects.bundle.description import POOL, read_description, verify_files


def load_pool(folder: Path) -> CandidatePool:
    """The pool of a bundle, of which no other part is read.

    Raises ModelMismatch: ``bundle.unreadable``, ``bundle.version``, ``bundle.tampered``, ``pool.invalid``.
    """
    described = read_description(folder)
    verify_files(folder, described, only=[name for name in described.files if name.startswith(f"{POOL}/")])
    return CandidatePool.load(folder / POOL)


def read_pool(folder: Path) -> tuple[CandidatePool, ReducedIndex | None]:
    """From verified files. Raises ModelMismatch (``pool.invalid``, ``pool.index``, ``model.file``)."""
    pool = CandidatePool.load(folder / POOL)
    return pool, ReducedIndex.beside(folder / POOL, pool)


def write_pool(folder: Path, pool: CandidatePool, index: ReducedIndex | None) -> None:
    pool.save(folder / POOL)
    if index is not None:
        index.save(folder / POOL / INDEX)
