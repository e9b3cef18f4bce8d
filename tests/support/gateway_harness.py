"""A gateway process over an embedded bus, for the tests of the service and of its clients."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest

from mindsight.blobs import BlobStore
from mindsight.bus import Bus, EmbeddedServer, Log
from mindsight.protocol.inputs import SkipVolume, TakeVolume, parse_input
from mindsight.settings import Settings
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume, encode_volume
from service.keys import Role, create_keys

PUBLIC = {"/v1/health", "/v1/sign-in", "/v1/sign-in/callback"}
"""What needs no key."""
TLS = ssl.create_default_context()
"""Given to every client: each would read all certificates of this machine, and no test speaks TLS."""


@dataclass
class Running:
    """A gateway process, its keys and a client per role."""

    settings: Settings
    url: str
    keys: dict[Role, str]
    process: subprocess.Popen[str]

    def client(self, role: Role | None = "admin") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[role]}"} if role else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=10.0, verify=TLS)


def start_gateway(settings: Settings, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    environment = {
        **os.environ,
        "MINDSIGHT_DATA_DIR": str(settings.data_dir),
        "MINDSIGHT_REDIS_URL": settings.redis_url,
        "MINDSIGHT_BUS_TIMEOUT_S": str(settings.bus_timeout_s),
        "MINDSIGHT_MAX_VOLUME_BYTES": str(settings.max_volume_bytes),
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "service", "--port", "0", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "ready at" in line:
            return process, line.split()[-1]
    raise AssertionError(f"the gateway ended with {process.wait(5)}")


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    assert process.wait(15) == 0
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture(scope="session", name="running")
def running_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("gateway"), bus_timeout_s=2.0, max_volume_bytes=4 * 1024 * 1024
    )
    keys = create_keys(settings.data_dir)
    (settings.bundles_dir / "bundle-1").mkdir(parents=True)
    (settings.bundles_dir / "bundle-1" / "bundle.json").write_text('{"pool": {"size": 50}}')
    (settings.bundles_dir / "bundle-1" / "pool").mkdir()
    (settings.bundles_dir / "bundle-1" / "pool" / "pool.json").write_text('{"ids": ["cat-1", "cat-2", "dog"]}')
    with EmbeddedServer(settings):
        process, url = start_gateway(settings)
        yield Running(settings, url, keys, process)
        stop(process)


def payload(index: int, run: int = 1, shape: tuple[int, int, int] = (8, 8, 4), seed: int = 0) -> bytes:
    data = np.random.default_rng([seed, run, index]).integers(0, 1000, shape, dtype=np.int16)
    return encode_volume(Volume(data, np.diag([3.0, 3.0, 3.0, 1.0]), 2.0, run, index, acquired_s=100.0 + 2.0 * index))


def taken(running: Running, bus: Bus, session: str) -> tuple[list[Volume], list[int]]:
    """The volumes that the service has, and the indices that were declared missing."""
    entries = [parse_input(entry.payload) for entry in Log(bus, session, "input").read()]
    blobs = BlobStore(running.settings.blobs_dir)
    volumes = [decode_volume(blobs.get(entry.digest)) for entry in entries if isinstance(entry, TakeVolume)]
    return volumes, [entry.index for entry in entries if isinstance(entry, SkipVolume)]
