"""Whether a page can be used by everybody, as far as axe-core can tell."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe


def violations(page: Any) -> list[str]:
    """Broken rules, each with the first elements that break it."""
    found = Axe().run(page).response["violations"]
    return [f"{v['id']}: {v['help']}: {[node['target'] for node in v['nodes'][:4]]}" for v in found]
