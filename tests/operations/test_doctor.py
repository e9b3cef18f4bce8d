"""What ``mindsight doctor`` finds out about the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.operations.doctor import _bundles, _device, _refinement
from mindsight.settings import Settings
from mindsight.subjects.bundle.decoder import Sampling
from support.linear_bundle import linear_bundle


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


def test_a_bundle_that_starts_from_a_low_level_image_needs_its_autoencoder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, generator_dir=tmp_path / "unclip")
    assert _bundles(settings) == "0 in the data folder"
    sampling = Sampling(generator=SampleOptions(preset="sdedit"))
    replace(linear_bundle(), sampling=sampling).save(settings.bundles_dir / "starting")
    with pytest.raises(RuntimeError, match="lowlevel/ of MINDSIGHT_GENERATOR_DIR for the bundle starting"):
        _bundles(settings)
    (tmp_path / "unclip" / "lowlevel").mkdir(parents=True)
    assert _bundles(settings) == "1 in the data folder"
    (settings.bundles_dir / "starting" / "bundle.json").write_text("{")
    with pytest.raises(ModelMismatch):
        _bundles(settings)
