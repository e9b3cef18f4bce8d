"""The three results of a trial: ``fast`` soon after it, ``revised`` with its whole response, ``final`` after the run.

Knows nothing of what a result holds.
"""

from __future__ import annotations

from typing import Literal

Stage = Literal["fast", "revised", "final"]
STAGES: tuple[Stage, ...] = ("fast", "revised", "final")
