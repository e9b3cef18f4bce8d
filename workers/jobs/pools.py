"""The candidate pool that a calibration names. Knows nothing of how pools are built."""

from __future__ import annotations

from mindsight.errors import NotFound
from mindsight.retrieval import CandidatePool
from mindsight.settings import Settings


def open_pool(settings: Settings, name: str | None) -> CandidatePool | None:
    """None for no name. Raises NotFound (``pool.unknown``), ModelMismatch (``pool.invalid``)."""
    if name is None:
        return None
    folder = settings.pools_dir / name
    if not folder.exists():
        raise NotFound(f"there is no pool {name}; build it first: POST /v1/pools", code="pool.unknown")
    return CandidatePool.load(folder)


def check_encoder(settings: Settings, pool: CandidatePool | None) -> None:
    """Refuse a pool of another encoder than the backbone's before any run is read.

    Raises ModelMismatch (``pool.query_shape``), and what loading the backbone raises.
    """
    if pool is not None and settings.backbone_dir is not None:
        from training.calibration.heads import load_head

        load_head(settings.backbone_dir, pool)
