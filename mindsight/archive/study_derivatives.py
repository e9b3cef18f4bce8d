"""The derivative half of a study: what makes the derivatives of many sessions one BIDS dataset.

Names and sidecars are those that the BIDS schema knows. For the rest, ``.bidsignore`` says what it is and why BIDS has
no word for it; there the field's usual names are kept, those of fMRIPrep and nilearn. Knows nothing of raw data but
the names of its files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mindsight.archive.names import MASK
from mindsight.archive.write.tables import write_json, write_tsv

IMAGE = ".nii.gz"
REPORTS, LOGS = Path("docs"), Path("logs")  # which every BIDS dataset may have

README = """\
What Mindsight computed while the participants were scanned, as a BIDS derivative of the dataset two folders up.

sub-*/ses-*/func has the realigned series of the decoder's voxels, their mask, confounds under fMRIPrep's names, a map
of betas per trial at each stage with the table of its trials, each run's registration, and what was decoded.
descriptions.tsv says what each desc- entity is; sub-*/ses-*/images has the reconstructions; docs/ has a report of each
session, logs/ the versions, digests and parameters that it was made with.
"""
IGNORED = """\
# What BIDS has no word for: the schema of 1.11 has no rule for these names. Everything else here is validated.

# confounds, a row per volume: fMRIPrep's name; BIDS has only physio, stim and motion recordings as series in time
*_timeseries.tsv
*_timeseries.json
# betas, a map per trial, their variances, and the tables of their trials: nilearn's and FitLins' name; BIDS has no
# derivatives of statistical models, neither the suffix nor the entity stat-
*_statmap.nii.gz
*_statmap.json
*_statmap.tsv
# a run's registration to the subject's reference: fMRIPrep's name; BIDS has no transforms
*_xfm.txt
*_xfm.json
# candidates and confidences of every trial and stage: BIDS has no results of decoding
*_results.tsv
*_results.jsonl
# reconstructions, retrieved images, contact sheets: BIDS has images that were shown, none that were decoded
sub-*/ses-*/images
"""
_DESCRIPTIONS = {
    "confounds": "Motion, quality and drifts, a row per volume, under fMRIPrep's names",
    "decoder": "Voxels that the decoder reads",
    "decoding": "Ranked candidates with their confidence, of every trial at every stage",
    "fast": "Of the first stage: from the volumes up to the rise of the trial's response",
    "final": "Of the last stage: from all volumes of the run",
    "placement": "Figure of the run's first volume on the subject's reference",
    "preproc": "The series that the betas were estimated from: realigned, the decoder's voxels, zero elsewhere",
    "revised": "Of the second stage: with the volumes that came until then",
}
_EFFECT = "Single-trial responses, a volume per trial of the table of the same name; zero outside the decoder's voxels"
_VARIANCE = "Squared standard errors of the single-trial responses, volume by volume"


def write_heads(root: Path, name: str, described: dict[str, Any]) -> None:
    """The dataset's own files. described : version of BIDS, and the program"""
    root.mkdir(parents=True)
    linked = {"SourceDatasets": [{"URL": "../.."}], "DatasetLinks": {"raw": "../.."}}
    head = {"Name": f"{name}: as decoded live", "DatasetType": "derivative", **linked, **described}
    write_json(root / "dataset_description.json", head)
    (root / "README").write_text(README, encoding="utf-8")
    (root / ".bidsignore").write_text(IGNORED, encoding="utf-8")
    write_tsv(
        root / "descriptions.tsv",
        ["desc_id", "description"],
        [(f"desc-{label}", text) for label, text in _DESCRIPTIONS.items()],
    )


def placed(name: str, tasks: Sequence[str]) -> list[str]:
    """Where a file of a session's derivatives lies in the study's: a mask once for each task, which BIDS wants in its
    name; figures with the report that shows them."""
    path = Path(name)
    if name.endswith(MASK):
        return [str(path.with_name(path.name.replace(f"_{MASK}", f"_task-{task}_{MASK}"))) for task in tasks]
    if path.suffix == ".html" or "figures" in path.parts:
        return [str(REPORTS / path)]
    return [name]


def write_sidecar(root: Path, name: str, raw: Sequence[str]) -> None:
    """What an image is and what it was made of, in addition to what its own sidecar says.

    raw : the raw dataset's images of the session, with their folders
    """
    file = root / f"{name.removesuffix(IMAGE)}.json"
    held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.unlink(missing_ok=True)  # it may be the archive's own
    write_json(file, held | _sidecar(Path(name).name) | {"Sources": [f"bids:raw:{one}" for one in _sources(name, raw)]})


def _sidecar(name: str) -> dict[str, Any]:
    if name.endswith(MASK):
        return {"Type": "ROI", "Description": _DESCRIPTIONS["decoder"]}
    if "_stat-" in name:
        return {"SkullStripped": True, "Description": _VARIANCE if "_stat-variance_" in name else _EFFECT}
    return {"SkullStripped": True, "Description": _DESCRIPTIONS["preproc"]}


def _sources(name: str, raw: Sequence[str]) -> Iterator[str]:
    """The run's image; for a mask, those of its task."""
    stem = Path(name).name.partition("_desc-")[0]
    return (one for one in raw if Path(one).name.startswith(f"{stem}_"))
