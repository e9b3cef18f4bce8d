"""Settings come from the environment, and a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from mindsight.bus import Bus
from mindsight.errors import BadRequest
from mindsight.settings import Settings, read_settings


def test_a_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("DATA_DIR", "/srv/lab"), ("PORT", "0"), ("BEHIND_PROXY", "1"), ("CAPTIONS_DIR", "/srv/git")):
        monkeypatch.setenv(f"MINDSIGHT_{name}", value)
    monkeypatch.setenv("MINDSIGHT_OF_ANOTHER_VERSION", "ignored")
    settings = Settings()
    assert (settings.port, settings.behind_proxy, settings.captions_dir) == (0, True, Path("/srv/git"))
    assert settings.motion_device is None


def test_everything_durable_is_below_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    folders = [getattr(settings, name) for name in dir(Settings) if name.endswith("_dir")]
    assert len(folders) == len(set(folders)) > 8
    assert all(tmp_path in folder.parents for folder in folders)


def test_a_wrong_value_is_refused_by_the_name_of_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSIGHT_PORT", "none")
    with pytest.raises(ValidationError, match="port"):
        Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "99999"),
        ("PORT", "-1"),
        ("MAX_VOLUME_BYTES", "0"),
        ("MAX_VOLUME_BYTES", "1e30"),
        ("BUS_TIMEOUT_S", "0"),
        ("BUS_TIMEOUT_S", "nan"),
        ("BUS_TIMEOUT_S", "inf"),
        ("RETENTION_DAYS", "-4"),
    ],
)
def test_a_number_out_of_bounds_is_refused_in_one_line(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"MINDSIGHT_{name}", value)
    with pytest.raises(BadRequest, match=f"expected a valid MINDSIGHT_{name}, got '{value}'") as error:
        read_settings()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda:0", "cuda:11"])
def test_a_device_is_auto_the_cpu_or_a_card_by_its_number(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSIGHT_DEVICE", device)
    assert read_settings().device == device


@pytest.mark.parametrize("device", ["cuda", "gpu", "cuda:-1", "cuda:one", "mps"])
def test_another_device_is_refused_in_one_line(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSIGHT_DEVICE", device)
    with pytest.raises(BadRequest, match="MINDSIGHT_DEVICE") as error:
        read_settings()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["localhost:6379", "http://bus", "redis:", ""])
def test_another_bus_is_refused_and_its_password_not_printed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSIGHT_REDIS_URL", f"{url}#secret")
    with pytest.raises(BadRequest, match="MINDSIGHT_REDIS_URL") as error:
        read_settings()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["s3://lab", "s3://lab.decoder/scanner-a/1", ""])
def test_payloads_are_in_a_bucket_that_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSIGHT_BLOBS_URL", url)
    assert read_settings().blobs_url == url


@pytest.mark.parametrize(
    "url", ["lab", "https://s3.lab.example/x", "s3://key:secret@lab/x", "s3://L", "s3://lab/a b", "s3:"]
)
def test_another_place_for_payloads_is_refused_and_not_printed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINDSIGHT_BLOBS_URL", url)
    with pytest.raises(BadRequest, match="MINDSIGHT_BLOBS_URL") as error:
        read_settings()
    assert "secret" not in str(error.value)


def test_an_address_of_the_bus_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(BadRequest, match="MINDSIGHT_REDIS_URL") as error:
        Bus("redis://:secret@host:port/0").ping()
    assert "secret" not in str(error.value)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it a folder: the working directory is none of its models."""
    for name in ("MINDSIGHT_GENERATOR_DIR", "MINDSIGHT_DEVICE"):
        monkeypatch.setenv(name, "")
    settings = read_settings()
    assert (settings.generator_dir, settings.device) == (None, "auto")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MINDSIGHT_DATADIR", "MINDSIGHT_DATA_DIR"),
        ("MINDSIGHT_PROT", "MINDSIGHT_PORT"),
        ("MINDSIGHT_DATA", "MINDSIGHT_DATA_DIR"),
        ("MINDSIGHT_BACKBONE", "MINDSIGHT_BACKBONE_DIR"),
        ("MINSIGHT_DATA_DIR", "MINDSIGHT_DATA_DIR"),
        ("MINDSIGHT_KEY", None),
        ("MINDSIGHT_PORT_8420_TCP", None),  # of Kubernetes
        ("MINDSIGHT_SITE", None),  # of the containers' proxy
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest(
    name: str, meant: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    if meant is None:
        read_settings()
        return
    with pytest.raises(BadRequest, match=f"got {name}: did you mean {meant}"):
        read_settings()
