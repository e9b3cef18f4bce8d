"""The part of a subject bundle that ingest needs: options of the GLM, the voxels' space, the betas' statistics.

Only the files of this part are read: a session that opens does not hold up the volumes of another session while a
candidate pool is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from mindsight.errors import ModelMismatch
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.subjects.bundle.description import BundleDescription, invalid_description, read_description, verify_files
from mindsight.volume import Volume
from mindsight.weights.tensors import map_tensors, write_tensors

SPACE, STATISTICS = "space.safetensors", "statistics.safetensors"

# fields of ``SubjectSpace`` that are saved if calibration determined them
_OF_VOXELS = ("hrf_V", "lag_V", "noise_pool_V")
_OPTIONS, _BASELINE = TypeAdapter(IngestOptions), TypeAdapter(Baseline)


@dataclass(frozen=True, eq=False)
class CalibratedSpace:
    """See ``Bundle``."""

    options: IngestOptions
    space: SubjectSpace
    statistics: Statistics
    baseline: Baseline | None


def load_space(folder: Path) -> CalibratedSpace:
    """Raises ModelMismatch: ``bundle.unreadable``, ``bundle.version``, ``bundle.tampered``, ``bundle.invalid``."""
    described = read_description(folder)
    verify_files(folder, described, only=(SPACE, STATISTICS))
    return read_space(folder, described)


def read_space(folder: Path, described: BundleDescription) -> CalibratedSpace:
    """From verified files. Raises ModelMismatch (``bundle.invalid``) if they do not fit each other."""
    try:
        options = _OPTIONS.validate_python(described.options)
        baseline = None if described.baseline is None else _BASELINE.validate_python(described.baseline)
    except ValidationError as error:
        raise invalid_description(error) from None
    held, statistics = map_tensors(folder / SPACE), map_tensors(folder / STATISTICS)
    space = SubjectSpace(
        _reference(held, described.tr_s),
        np.array(held["mask"]),
        **{name: np.array(held[name]) for name in _OF_VOXELS if name in held},
    )
    try:
        n = int(statistics["n"][0])
    except (LookupError, ValueError, OverflowError):
        raise ModelMismatch("expected the number of betas behind the statistics", code="bundle.invalid") from None
    found = Statistics(np.array(statistics["mean"]), np.array(statistics["std"]), n)
    check_voxels(space, {"mean": len(found.mean_V), "standard deviation": len(found.std_V)})
    return CalibratedSpace(options, space, found, baseline)


def write_space(folder: Path, space: SubjectSpace, statistics: Statistics) -> None:
    of_voxels = {name: getattr(space, name) for name in _OF_VOXELS}
    write_tensors(
        folder / SPACE,
        {
            "reference": space.reference.data.astype(np.float32),
            "affine": space.reference.affine,
            "mask": space.mask_XYZ,
            **{name: values for name, values in of_voxels.items() if values is not None},
        },
    )
    write_tensors(
        folder / STATISTICS,
        {"mean": statistics.mean_V, "std": statistics.std_V, "n": np.array([statistics.n], np.int64)},
    )


def check_voxels(space: SubjectSpace, sizes: Mapping[str, int]) -> None:
    """Raises ModelMismatch (``bundle.invalid``) if a part is not for the mask's voxels."""
    wrong = {name: size for name, size in sizes.items() if size != space.n_voxels}
    if wrong:
        raise ModelMismatch(
            f"expected everything for the {space.n_voxels} voxels of the mask, got {wrong}", code="bundle.invalid"
        )


def _reference(held: Mapping[str, NDArray[Any]], tr_s: float) -> Volume:
    return Volume(np.array(held["reference"]), np.array(held["affine"]), tr_s, run=1, index=0)
