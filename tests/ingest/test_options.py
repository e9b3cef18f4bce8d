"""What is given on top of a session's options."""

from __future__ import annotations

import pytest

from mindsight.errors import BadRequest
from mindsight.ingest import IngestOptions
from mindsight.preprocessing.quality.limits import QualityLimits


def test_given_values_replace_present_ones_and_none_keeps_them() -> None:
    calibrated = IngestOptions(fast_volumes=4, revised_s=20.0, min_betas=9)
    options = calibrated.override({"revised_s": 30.0, "min_betas": None, "std_floor": 0.2})
    assert options == IngestOptions(fast_volumes=4, revised_s=30.0, min_betas=9, std_floor=0.2)


def test_a_stage_given_in_seconds_replaces_one_in_volumes() -> None:
    calibrated = IngestOptions(fast_volumes=4)
    assert calibrated.override({"fast_s": 5.0}).waits_s(2.0)["fast"] == 5.0
    assert calibrated.override({"fast_s": 5.0, "fast_volumes": 3}).waits_s(2.0)["fast"] == 6.0


def test_what_censors_a_volume_also_raises_its_alert_unless_a_limit_is_named() -> None:
    assert IngestOptions().override({"fd_threshold_mm": 0.9}).limits == QualityLimits(fd_mm=0.9)
    named = IngestOptions().override({"fd_threshold_mm": 0.9, "limits": {"fd_mm": None, "spikes": 2}})
    assert (named.fd_threshold_mm, named.limits) == (0.9, QualityLimits(fd_mm=None, spikes=2))


@pytest.mark.parametrize("given", [{"fast_s": -1.0}, {"limits": {"spikes": -1}}])
def test_what_makes_no_sense_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match="expected"):
        IngestOptions().override(given)
