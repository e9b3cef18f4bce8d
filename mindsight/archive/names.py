"""How BIDS names a session's files. Knows nothing of what is in them.

Entities in the order of BIDS 1.10, appendix "Entity table"; ``stat`` and ``statmap`` as in its statistical-model
derivatives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mindsight.errors import BadRequest


def bids_label(text: str) -> str:
    """The letters and digits of a name, which is all that BIDS allows in a label. Raises BadRequest if none is left."""
    label = re.sub(r"[^A-Za-z0-9]", "", text)
    if not label:
        raise BadRequest("expected a name with letters or digits in it", code="archive.label")
    return label


@dataclass(frozen=True, slots=True)
class Names:
    """Paths of one session's files below the root of a dataset, raw or derivative."""

    subject: str
    session: str

    @property
    def folder(self) -> Path:
        return Path(f"sub-{bids_label(self.subject)}") / f"ses-{bids_label(self.session)}"

    @property
    def stem(self) -> str:
        return f"sub-{bids_label(self.subject)}_ses-{bids_label(self.session)}"

    def func(self, rest: str) -> Path:
        """A file of the session as a whole."""
        return self.folder / "func" / f"{self.stem}_{rest}"

    def run(self, task: str, run: int, rest: str) -> Path:
        return self.func(f"task-{bids_label(task)}_run-{run}_{rest}")

    def figure(self, task: str, run: int, rest: str) -> Path:
        """A picture of a run for a report, where fMRIPrep's are."""
        label = bids_label(self.subject)
        return Path(f"sub-{label}") / "figures" / f"{self.stem}_task-{bids_label(task)}_run-{run}_{rest}"

    def picture(self, rest: str) -> Path:
        return self.folder / "images" / rest
