"""Parts are read ahead, in order, once each."""

from __future__ import annotations

import threading
from typing import cast

import pytest
import torch

from training.pretraining.ahead import Ahead
from training.pretraining.batches import Part


def part_of(number: int) -> Part:
    return Part(number, (), (), torch.zeros(0), None)


def test_the_part_after_is_read_before_it_is_asked_for() -> None:
    read: list[int] = []
    second = threading.Event()

    def reading(number: int) -> Part:
        read.append(number)
        if number == 1:
            second.set()
        return part_of(number)

    ahead = Ahead(reading)
    assert ahead.part(0, 1).number == 0
    assert second.wait(10)
    assert ahead.part(1, 2).number == 1
    assert ahead.part(7, None).number == 7  # another than was expected, as after a checkpoint
    assert sorted(read) == [0, 1, 2, 7]


def test_what_reading_raises_comes_with_its_part() -> None:
    def reading(number: int) -> Part:
        if number == 1:
            raise OSError("the disk is gone")
        return part_of(number)

    ahead = Ahead(reading)
    assert cast(Part, ahead.part(0, 1)).number == 0
    with pytest.raises(OSError, match="the disk is gone"):
        ahead.part(1, 2)
