"""What ``mindsight doctor`` finds out about the device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mindsight import assets
from mindsight.errors import BadRequest, MindsightError, ModelMismatch
from mindsight.operations.doctor import _device
from mindsight.operations.inference_check import InferenceCheck
from mindsight.settings import Settings
from support.linear_bundle import linear_bundle


def test_the_device_and_its_precision_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _device(Settings(device="auto")) == "cpu, float32"


def test_a_card_that_is_not_there_is_found_before_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadRequest, match="MINDSIGHT_DEVICE"):
        _device(Settings(device="cuda:0"))


def test_a_driver_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nUpdate it.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(RuntimeError, match=r"too old \(found version 11040\)\.\): update the driver"):
        _device(Settings(device="auto"))
    with pytest.raises(BadRequest, match="too old"):
        _device(Settings(device="cuda:0"))
    assert _device(Settings(device="cpu")) == "cpu, float32"


def test_a_generator_that_is_not_there_or_is_no_generator_is_found_before_a_session(tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match=r"manifest\.json"):
        InferenceCheck(Settings(generator_dir=tmp_path)).generator()
    with pytest.raises(ModelMismatch, match="a generator of a kind that is known here"):
        InferenceCheck(Settings(generator_dir=assets.ENCODER)).generator()
    assert "one image drawn" in InferenceCheck(Settings()).generator()
    with pytest.raises(MindsightError, match="name of an engine"):
        InferenceCheck(Settings(engine="tensorrt-sm89", data_dir=tmp_path)).generator()


def test_a_refiner_without_captions_or_parts_is_found_before_a_session(tmp_path: Path) -> None:
    assert InferenceCheck(Settings()).refinement() == "off"
    with pytest.raises(BadRequest, match="MINDSIGHT_CAPTIONS_DIR beside MINDSIGHT_REFINER_DIR"):
        InferenceCheck(Settings(refiner_dir=tmp_path)).refinement()
    with pytest.raises(ModelMismatch, match=r"without unet/config\.json, vae/config\.json, text_encoder/config\.json"):
        InferenceCheck(Settings(refiner_dir=tmp_path, captions_dir=tmp_path)).refinement()


def test_a_bundle_of_another_encoder_than_the_generator_s_is_found_before_a_session(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert InferenceCheck(settings).bundles() == "none in the data folder"
    linear_bundle().save(settings.bundles_dir / "faces")
    assert InferenceCheck(settings).bundles().startswith("faces")
    named = settings.model_copy(update={"generator_dir": assets.GENERATOR})
    with pytest.raises(ModelMismatch, match="nothing can be drawn with faces: expected"):
        InferenceCheck(named).bundles()
    (settings.bundles_dir / "faces" / "bundle.json").write_text("{")
    with pytest.raises(ModelMismatch):
        InferenceCheck(settings).bundles()
