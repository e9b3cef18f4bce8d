"""What commands read from their options."""

from __future__ import annotations

import math

import pytest

from mindsight.cli.options import parse_speed
from mindsight.errors import BadRequest


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", "inf", "10000", ""])
def test_a_speed_that_is_no_number_above_zero_is_refused(speed: str) -> None:
    with pytest.raises(BadRequest, match="--speed") as refused:
        parse_speed(speed)
    assert refused.value.code == "cli.speed"


def test_a_speed_is_a_number_or_max() -> None:
    assert parse_speed("2.5") == 2.5
    assert parse_speed("max") == math.inf
