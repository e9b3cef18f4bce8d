"""What ``mindsight doctor`` finds out, and what it says to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch

from mindsight import assets
from mindsight.errors import BadRequest, Conflict, MindsightError, ModelMismatch, NotFound, StorageUnavailable
from mindsight.operations import machine_check
from mindsight.operations.doctor import _bus, _device, _engines, _payloads
from mindsight.operations.inference_check import InferenceCheck
from mindsight.operations.machine_check import Noted
from mindsight.settings import Settings
from service.keys import ROLES, create_keys
from support.bucket import needs_bucket, served_bucket
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


def test_payloads_are_in_the_data_folder_unless_a_bucket_is_named() -> None:
    assert _payloads(Settings()) == "in the data folder"


@needs_bucket
def test_a_bucket_is_written_read_and_left_as_it_was() -> None:
    with served_bucket("tried-by-doctor") as bucket:
        found = _payloads(Settings(blobs_url=bucket.url))
        assert found.startswith(f"{bucket.url}, a volume of 2 MB is durable in ")
        assert bucket.names() == []
        with pytest.raises(StorageUnavailable, match="got NoSuchBucket: make the bucket"):
            _payloads(Settings(blobs_url="s3://another-bucket"))


def test_a_folder_that_is_set_and_not_there_is_named(tmp_path: Path) -> None:
    assert "models that ship" in machine_check.folders(Settings())
    with pytest.raises(BadRequest, match=f"expected MINDSIGHT_GENERATOR_DIR to exist, got none at {tmp_path}/unclip"):
        machine_check.folders(Settings(generator_dir=tmp_path / "unclip"))


def test_a_port_that_another_program_holds_is_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Conflict, match=f"expected 127.0.0.1:{port} to be free, got .*: stop what listens there"):
            machine_check.port(Settings(data_dir=tmp_path, port=port))
    assert machine_check.port(Settings(data_dir=tmp_path, port=port)) == f"127.0.0.1:{port} is free"


def test_keys_that_others_read_are_found(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert machine_check.keys(settings).startswith("none yet")
    create_keys(tmp_path)
    assert machine_check.keys(settings) == f"{', '.join(f'1 {role}' for role in ROLES)} (mindsight key list)"
    (tmp_path / "keys.json").chmod(0o644)
    with pytest.raises(RuntimeError, match="chmod 600"):
        machine_check.keys(settings)


def test_the_disk_the_clock_the_bus_and_the_engines_are_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    assert "GB free, a volume of 2 MB is durable in" in machine_check.disk(settings)
    tmp_path.chmod(0o755)
    assert "others may look into it: chmod 700" in machine_check.disk(settings)
    tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(machine_check, "SLOW_DISK_MS", 0.0)
    assert isinstance(machine_check.disk(settings), Noted)
    assert "synchronised" in machine_check.clock() or "host" in machine_check.clock()
    assert "server v" in _bus(settings).lower()
    assert _engines(settings) == "eager is set; built here: none (mindsight engine build)"


def test_a_missing_generator_is_named_where_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"MINDSIGHT_GENERATOR_DIR, got no folder {tmp_path}/unclip: correct it"):
        InferenceCheck(Settings(generator_dir=tmp_path / "unclip")).generator()
