"""Each run's registration to the subject's reference: a transform that other programs read, its quality and a figure.

Named as by fMRIPrep, ``from-session_to-reference_mode-image_xfm``: the matrix maps points of the reference to points of
the session, as resampling an image into the reference needs. Knows nothing of how it was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mindsight.archive.names import REGISTRATION, Names
from mindsight.archive.records import ArchivedRun
from mindsight.archive.write.contact_sheet import extension
from mindsight.archive.write.tables import write_json

_MEANING = "4 x 4, RAS+ millimetres of the subject's reference to RAS+ millimetres of this run's volumes"


def write_registration(root: Path, names: Names, run: ArchivedRun, images: Mapping[str, bytes]) -> None:
    if run.registration is None:
        return
    path = root / names.run(run.task, run.run, f"{REGISTRATION}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (" ".join(f"{value:.12g}" for value in row) for row in run.registration.rigid.tolist())
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_json(path.with_suffix(".json"), {"Matrix": _MEANING, **run.registration.details})
    figure = None if run.registration.figure is None else images.get(run.registration.figure)
    if figure is not None:
        drawn = root / names.figure(run.task, run.run, "desc-placement_bold" + extension(figure))
        drawn.parent.mkdir(parents=True, exist_ok=True)
        drawn.write_bytes(figure)
