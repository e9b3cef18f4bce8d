"""The report of a calibration: what was measured as a page and as JSON, in a folder that the bundle holds.

``save_with_report`` saves a bundle with its report in it, hashed with it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.evaluation.calibration_record import CalibrationRecord
from mindsight.evaluation.reliability import ReliabilityBin
from mindsight.evaluation.report.calibration_json import (
    CalibrationFigures,
    reliability_of,
    report_json,
    retrieval_figures,
)
from mindsight.evaluation.report.calibration_page import BrainMap, calibration_page, top_of
from mindsight.evaluation.report.glass_brain import on_template
from mindsight.evaluation.verdict import verdict_of
from mindsight.files.durable import write_durably
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing import brain_mask
from mindsight.retrieval import CandidatePool
from mindsight.stages import STAGES
from mindsight.subjects.bundle.description import REPORT, REPORT_FIGURES, REPORT_PAGE
from mindsight.subjects.bundle.folder import Bundle


def figures_of(record: CalibrationRecord) -> CalibrationFigures:
    """What follows from the record, the verdict among it."""
    stages: dict[str, list[ReliabilityBin]] = {
        stage: reliability_of(record.of_stage(stage)) for stage in STAGES if record.of_stage(stage)
    }
    return CalibrationFigures(retrieval_figures(record), stages, verdict_of(record))


def save_with_report(bundle: Bundle, record: CalibrationRecord, folder: Path, *, template: bool = False) -> Bundle:
    """Write the bundle with its report, whole or not at all; see ``Bundle.save`` and ``write_report``."""

    def also(partial: Path) -> None:
        write_report(partial, record, bundle.space, bundle.pool, template=template)

    return bundle.save(folder, also)


def write_report(
    folder: Path, record: CalibrationRecord, space: SubjectSpace, pool: CandidatePool, *, template: bool = False
) -> CalibrationFigures:
    """Write ``report/`` into the folder: the record, ``report.json`` and ``report.html``.

    space : whose V voxels ``record.reliability_V`` are of
    pool : for the images that were shown
    template : also draw nilearn's glass brain, if nilearn is installed; importing it takes seconds
    """
    own = folder / REPORT
    own.mkdir(parents=True, exist_ok=True)
    figures = figures_of(record)
    record.save(own)
    text = json.dumps(report_json(record, figures), indent=1, allow_nan=False)
    write_durably(own / REPORT_FIGURES, text.encode() + b"\n")
    brain = _brain_map(record, space, template)
    page = calibration_page(record, figures, brain, _shown(record, pool))
    write_durably(own / REPORT_PAGE, page.encode())
    return figures


def _brain_map(record: CalibrationRecord, space: SubjectSpace, template: bool) -> BrainMap:
    mask_XYZ, affine = space.mask_XYZ, space.reference.affine
    drawn = None
    if template and record.reliability_V is not None:
        head_XYZ = brain_mask(space.reference.data)
        drawn = on_template(np.asarray(record.reliability_V), mask_XYZ, head_XYZ, affine, top_of(record))
    return BrainMap(mask_XYZ, affine, drawn)


def _shown(record: CalibrationRecord, pool: CandidatePool) -> dict[str, NDArray[np.uint8]]:
    from PIL import Image

    found: dict[str, NDArray[np.uint8]] = {}
    for image_id in {drawn.image for drawn in record.drawn}:
        path = None if pool.images is None else pool.images[pool.index_of(image_id)]
        if path is not None:
            with Image.open(path) as image:
                found[image_id] = np.asarray(image.convert("RGB"))
    return found
