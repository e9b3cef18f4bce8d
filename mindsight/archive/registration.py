"""Where each run's head was in the subject's space: a transform that other programs read, its figures and a picture.

Knows nothing of how it was found. Names as fMRIPrep has them: ``from-session_to-reference_mode-image_xfm``; the matrix
takes points of the reference to points of the session, which is what resampling an image into the reference needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mindsight.archive.names import Names
from mindsight.archive.pictures import extension
from mindsight.archive.records import ArchivedRun
from mindsight.archive.tables import write_json

_MEANING = "4 x 4, RAS+ millimetres of the subject's reference to RAS+ millimetres of this run's volumes"


def write_place(root: Path, names: Names, run: ArchivedRun, images: Mapping[str, bytes]) -> None:
    if run.place is None:
        return
    stem = "from-session_to-reference_mode-image_xfm"
    path = root / names.run(run.task, run.run, f"{stem}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (" ".join(f"{value:.12g}" for value in row) for row in run.place.rigid.tolist())
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_json(path.with_suffix(".json"), {"Matrix": _MEANING, **run.place.details})
    picture = None if run.place.picture is None else images.get(run.place.picture)
    if picture is not None:
        drawn = root / names.figure(run.task, run.run, "desc-placement_bold" + extension(picture))
        drawn.parent.mkdir(parents=True, exist_ok=True)
        drawn.write_bytes(picture)
