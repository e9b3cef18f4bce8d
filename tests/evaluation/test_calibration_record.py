"""A record of a calibration is read as it was written, damage is noticed, and ranks are what a count gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.errors import ModelMismatch
from mindsight.evaluation.calibration_record import ARRAYS, RECORD, CalibrationRecord, ranks_both_ways
from support.calibration_record import record_of


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = record_of(n_trials=12)
    record.save(tmp_path)
    again = CalibrationRecord.load(tmp_path)
    assert again.as_json() == record.as_json()
    assert again.trials == record.trials
    assert again.curve == record.curve
    np.testing.assert_array_equal(again.reliability_V, record.reliability_V)
    np.testing.assert_array_equal(again.drawn_KHW3, record.drawn_KHW3)


@pytest.mark.parametrize("damage", ["version", "a field", "arrays", "other voxels", "cut"])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    record_of(n_trials=4).save(tmp_path)
    document = json.loads((tmp_path / RECORD).read_bytes())
    match damage:
        case "version":
            document["version"] = 2
        case "a field":
            del document["record"]["trials"][0]["image_rank"]
        case "arrays":
            (tmp_path / ARRAYS).unlink()
        case "other voxels":
            document["record"]["voxels"] += 1
    text = json.dumps(document)
    (tmp_path / RECORD).write_text(text[: len(text) // 2] if damage == "cut" else text)
    with pytest.raises(ModelMismatch) as raised:
        CalibrationRecord.load(tmp_path)
    assert raised.value.code == "calibration.record"


@given(st.integers(0, 1000), st.integers(2, 12), st.integers(2, 6))
@settings(deadline=None, max_examples=40)
def test_ranks_are_what_a_count_gives(seed: int, n_trials: int, n_images: int) -> None:
    rng = np.random.default_rng(seed)
    scores_KN = rng.integers(0, 4, (n_trials, n_images)).astype(float)  # with ties
    shown_K = rng.integers(0, n_images, n_trials)
    image_rank_K, brain_rank_K, n_brains_K = ranks_both_ways(scores_KN, shown_K)
    for k, image in enumerate(shown_K):
        own = scores_KN[k, image]
        assert image_rank_K[k] == sum(score >= own for score in scores_KN[k])
        others = [scores_KN[j, image] for j in range(n_trials) if shown_K[j] != image]
        assert brain_rank_K[k] == 1 + sum(score >= own for score in others)
        assert n_brains_K[k] == 1 + len(others)
