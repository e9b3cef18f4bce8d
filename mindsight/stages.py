"""The three results of a trial: ``fast`` soon after it, ``revised`` with its whole response, ``final`` after the run.
And the versions of one stage's reconstruction: ``preview`` as after the first steps of the sampler, ``full`` as after
the last, ``refined`` made of the full one later.

Knows nothing of what a result holds.
"""

from __future__ import annotations

from typing import Literal

Stage = Literal["fast", "revised", "final"]
STAGES: tuple[Stage, ...] = ("fast", "revised", "final")

Version = Literal["preview", "full", "refined"]
VERSIONS: tuple[Version, ...] = ("preview", "full", "refined")
"""A later one replaces an earlier one, in whichever order they come."""
