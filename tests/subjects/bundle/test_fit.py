"""The calibration of a reconstruction's fit is part of the bundle, and of its proof."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindsight.errors import ModelMismatch
from mindsight.quantiles import quantiles_of
from mindsight.subjects.bundle.description import digest_of
from mindsight.subjects.bundle.fit import FitCalibration, MismatchedFit
from mindsight.subjects.bundle.folder import Bundle
from support.small_bundle import make_bundle

FIT = FitCalibration(
    encoder="e" * 64,
    generator="g" * 64,
    stages={
        "fast": MismatchedFit(quantiles=quantiles_of(np.linspace(-0.2, 0.6, 50)), n=20),
        "final": MismatchedFit(quantiles=quantiles_of(np.linspace(-0.3, 0.7, 50)), n=19),
    },
)


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    saved = replace(make_bundle(), fit=FIT).save(tmp_path / "bundle")
    assert saved.fit == FIT
    assert saved.digest != make_bundle().save(tmp_path / "without").digest


def test_a_changed_quantile_is_found(tmp_path: Path) -> None:
    replace(make_bundle(), fit=FIT).save(tmp_path / "bundle")
    file = tmp_path / "bundle" / "bundle.json"
    described = json.loads(file.read_text())
    described["fit"]["stages"]["fast"]["quantiles"][50] += 0.01
    file.write_text(json.dumps(described))
    with pytest.raises(ModelMismatch) as error:
        Bundle.load(tmp_path / "bundle")
    assert error.value.code == "bundle.tampered"


def rewritten(folder: Path, **changes: object) -> None:
    """The bundle's description with other fields, None for one that is absent, and their digest."""
    file = folder / "bundle.json"
    described = json.loads(file.read_text()) | changes
    described = {name: value for name, value in described.items() if value is not None}
    file.write_text(json.dumps(described | {"digest": digest_of(described)}))


def test_a_bundle_from_before_has_none(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    rewritten(tmp_path / "bundle", fit=None)
    assert "fit" not in json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    assert Bundle.load(tmp_path / "bundle").fit is None


def test_one_that_is_none_is_refused(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    rewritten(tmp_path / "bundle", fit={"encoder": "e" * 64, "generator": "g" * 64, "stages": {"later": {}}})
    with pytest.raises(ModelMismatch) as error:
        Bundle.load(tmp_path / "bundle")
    assert error.value.code == "bundle.unreadable"
