"""What ``mindsight doctor`` finds out about the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.operations.doctor import _device, _refinement
from mindsight.settings import Settings


def test_the_device_and_its_precision_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _device(Settings(device="auto")) == "cpu, float32"


def test_a_card_that_is_not_there_is_found_before_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadRequest, match="MINDSIGHT_DEVICE"):
        _device(Settings(device="cuda:0"))


def test_a_refiner_without_captions_or_parts_is_found_before_a_session(tmp_path: Path) -> None:
    assert _refinement(Settings()) == "off"
    with pytest.raises(BadRequest, match="MINDSIGHT_CAPTIONS_DIR beside MINDSIGHT_REFINER_DIR"):
        _refinement(Settings(refiner_dir=tmp_path))
    with pytest.raises(ModelMismatch, match=r"without unet/config\.json, vae/config\.json, text_encoder/config\.json"):
        _refinement(Settings(refiner_dir=tmp_path, captions_dir=tmp_path))
