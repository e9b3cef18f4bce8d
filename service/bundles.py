"""What the gateway reads of subject bundles: their descriptions, never their arrays.

Knows nothing of whether a bundle is intact: what decodes with it verifies it.
"""

from __future__ import annotations

from mindsight.errors import BadRequest, NotFound
from mindsight.settings import Settings
from mindsight.subjects.bundle import description


def check_exists(settings: Settings, bundle: str | None) -> None:
    """Raises NotFound (``bundle.unknown``); None is no bundle, and passes."""
    if bundle is not None and not (settings.bundles_dir / bundle).exists():
        raise NotFound("there is no such subject bundle; make it with: mindsight calibrate", code="bundle.unknown")


def needs_n_volumes(settings: Settings, bundle: str | None) -> bool:
    """Whether the bundle decodes only runs whose number of volumes is declared."""
    return bundle is not None and description.needs_length(settings.bundles_dir / bundle)


def pool_size(settings: Settings, bundle: str | None) -> int | None:
    """Candidates in the bundle's pool; None without a bundle. Raises NotFound (``bundle.unreadable``)."""
    if bundle is None:
        return None
    size = description.pool_size(settings.bundles_dir / bundle)
    if size is None:
        raise _unreadable()
    return size


def pool_ids(settings: Settings, bundle: str | None) -> frozenset[str] | None:
    """The candidates of the bundle's pool; None without a bundle, or if it cannot be read."""
    return None if bundle is None else description.pool_ids(settings.bundles_dir / bundle)


def check_pool(settings: Settings, pool: str | None) -> None:
    """Raises NotFound (``pool.unknown``) unless a pool of this name can be used."""
    if pool is not None and not (settings.pools_dir / pool / "pool.json").exists():
        raise NotFound(f"there is no pool {pool}: build it with POST /v1/pools, and wait for it", code="pool.unknown")


def pool_candidates(settings: Settings, pool: str | None) -> frozenset[str] | None:
    """The candidates of a pool that was built as a job; None without a pool. Raises NotFound (``pool.unreadable``)."""
    if pool is None:
        return None
    found = description.ids_in(settings.pools_dir / pool)
    if found is None:
        raise NotFound("the pool cannot be read; build it again", code="pool.unreadable")
    return found


def check_pairs(settings: Settings, bundle: str | None, pairs: tuple[tuple[str, str], ...]) -> None:
    """Raises BadRequest (``pairs.unknown``) when a session is opened, not with its first result."""
    if not pairs:
        return
    if bundle is None:
        raise BadRequest("expected a subject with a bundle, got one without: there is no pool to take pairs from")
    known = pool_ids(settings, bundle)
    if known is None:
        raise _unreadable()
    unknown = sorted({candidate for pair in pairs for candidate in pair} - known)
    if unknown:
        raise BadRequest(
            f"expected pairs of the {len(known)} candidates in the subject's pool, got {unknown[0]!r}",
            code="pairs.unknown",
        )


def _unreadable() -> NotFound:
    return NotFound("the subject's bundle cannot be read; restore it, or set another", code="bundle.unreadable")
