"""How BIDS names a session's files, for those who write and who read them. Knows nothing of their content.

Entities in the order of BIDS 1.10, appendix "Entity table"; ``stat`` and ``statmap`` as in its statistical-model
derivatives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mindsight.errors import BadRequest
from mindsight.stages import STAGES, Stage

RAWDATA, DERIVED = Path("rawdata"), Path("derivatives") / "mindsight"
PROVENANCE = "provenance.json"
STIMULI = "stimuli"
MASK = "desc-decoder_mask.nii.gz"
REGISTRATION = "from-session_to-reference_mode-image_xfm"
RESULTS = "desc-decoding_results.jsonl"
EVENTS = "events.tsv"

_RUN = re.compile(r"_run-(\d+)_")
_RECONSTRUCTION = re.compile(rf"_run-(\d+)_trial-(\d+)_desc-({'|'.join(STAGES)})_reconstruction\.")


def bids_label(text: str) -> str:
    """The letters and digits of a name, the only characters that BIDS allows in a label.

    Raises BadRequest (``archive.label``) if the name has none.
    """
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
        """An image about a run for reports, in the folder that fMRIPrep uses."""
        label = bids_label(self.subject)
        return Path(f"sub-{label}") / "figures" / f"{self.stem}_task-{bids_label(task)}_run-{run}_{rest}"

    def image(self, rest: str) -> Path:
        return self.folder / "images" / rest

    def reconstruction(self, run: int, trial: int, stage: Stage, suffix: str) -> Path:
        return self.image(f"{self.stem}_run-{run}_trial-{trial}_desc-{stage}_reconstruction{suffix}")


def effect_maps(stage: Stage) -> str:
    """The betas of a run at one stage."""
    return f"desc-{stage}_stat-effect_statmap.nii.gz"


def table_beside(maps: Path) -> Path:
    """The table of the trials whose betas are in these maps."""
    return maps.with_name(maps.name.replace(".nii.gz", ".tsv"))


def run_of(name: str) -> int:
    """Number of the run in a file's name; 1 if it has none."""
    found = _RUN.search(name)
    return int(found[1]) if found else 1


def reconstruction_of(name: str) -> tuple[int, int, Stage] | None:
    """Run, trial and stage in the name of a reconstruction; None for any other name."""
    found = _RECONSTRUCTION.search(name)
    if found is None:
        return None
    return int(found[1]), int(found[2]), next(stage for stage in STAGES if stage == found[3])
