"""Messages of older sessions are read as those of today."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from mindsight.protocol import (
    Reconstruction,
    ReconstructionFit,
    RoiBaseline,
    RoiDeclared,
    dump_message,
    parse_message,
    without_truth,
)

WHERE = {"session": "ses-a", "t": 1.0, "run": 1, "trial": 2, "stage": "final"}
DRAWN = Reconstruction(**WHERE, image="a" * 64, seed=7, evaluations=4, generator="b" * 64)
FIT = ReconstructionFit(**WHERE, image="a" * 64, token_cosine=0.75, fit_percentile=98.5, encoder="c" * 64)


def test_a_fit_survives_the_wire() -> None:
    assert parse_message(dump_message(FIT)) == FIT


def test_a_fit_without_a_calibration_has_no_percentile() -> None:
    sent = json.loads(dump_message(FIT.model_copy(update={"fit_percentile": None})))
    assert "fit_percentile" not in sent
    read = parse_message(json.dumps(sent))
    assert isinstance(read, ReconstructionFit)
    assert read.fit_percentile is None


def test_the_confidence_in_a_reconstruction_of_an_older_session_is_left_out() -> None:
    """It was that of the result, which has it still."""
    old = json.loads(dump_message(DRAWN)) | {"confidence": 0.5}
    assert parse_message(json.dumps(old)) == DRAWN


def test_nothing_else_is_left_out() -> None:
    with pytest.raises(ValidationError):
        parse_message(json.dumps(json.loads(dump_message(DRAWN)) | {"certainty": 0.5}))


@pytest.mark.parametrize("wrong", [{"token_cosine": 1.5}, {"fit_percentile": 101.0}, {"fit_percentile": -1.0}])
def test_a_figure_out_of_its_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        parse_message(json.dumps(json.loads(dump_message(FIT)) | wrong))


def test_a_blinded_view_is_not_told_what_a_region_s_baseline_shows() -> None:
    baseline = RoiBaseline(kind="label", label="faces")
    declared = RoiDeclared(session="ses-a", t=1.0, name="left", mask="a" * 64, n_voxels=9, baseline=baseline)
    blinded = dump_message(without_truth(declared))
    assert b"faces" not in blinded
    assert parse_message(blinded) == without_truth(declared)
