"""What ``mindsight doctor`` finds out about the device."""

from __future__ import annotations

import pytest
import torch

from mindsight.errors import BadRequest
from mindsight.operations.doctor import _device
from mindsight.settings import Settings


def test_the_device_and_its_precision_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _device(Settings(device="auto")) == "cpu, float32"


def test_a_card_that_is_not_there_is_found_before_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadRequest, match="MINDSIGHT_DEVICE"):
        _device(Settings(device="cuda:0"))
