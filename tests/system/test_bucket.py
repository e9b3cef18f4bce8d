"""The whole service with its payloads in a bucket: a session from the first volume to its erasure, and an outage."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from mindsight.bus import Bus
from mindsight.client import Service, Watch
from mindsight.errors import StorageUnavailable
from mindsight.files.digest import sha256_of
from mindsight.journal.read import Journal, entries
from mindsight.protocol import Message, Reconstruction, Result, SessionArchived, VolumeProcessed
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume
from support.bucket import SECRET, Bucket, needs_bucket, served_bucket
from support.live import is_archived, running_service
from support.whole_service import ARCHIVE_S, WholeService, whole_service

pytestmark = [pytest.mark.slow, needs_bucket]

KEY = re.compile(r"decoder/(blobs|shown)/([0-9a-f]{2})/(\2[0-9a-f]{62})")
TRIALS = 6


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with served_bucket("whole-sessions") as bucket:
        yield bucket


@pytest.fixture(scope="module")
def service(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeService]:
    with whole_service(tmp_path_factory.mktemp("bucket"), blobs_url=bucket.url) as service:
        yield service


def referred_to(service: WholeService, session: str) -> set[str]:
    """The digests in a session's logs."""
    with closing(Bus.from_settings(service.settings)) as bus:
        journal = Journal(bus, session)
        logged = b"".join(entry.payload for log in (journal.inputs, journal.messages) for entry in entries(log))
    return {found.decode() for found in re.findall(rb"[0-9a-f]{64}", logged)}


def test_a_session_from_its_first_volume_to_its_erasure(service: WholeService, bucket: Bucket) -> None:
    with Service(service.url, service.key) as gateway, gateway.simulate(trials=TRIALS, speed=20.0) as simulated:
        session = simulated.session
        messages: list[Message] = list(Watch(service.url, service.key, session, deadline_s=ARCHIVE_S))
    assert isinstance(messages[-1], SessionArchived)
    assert len({m.trial for m in messages if isinstance(m, Result)}) == TRIALS
    n_volumes = sum(isinstance(m, VolumeProcessed) for m in messages)
    drawn = [m for m in messages if isinstance(m, Reconstruction)]
    assert drawn
    data = service.settings.data_dir
    assert not (data / "blobs").exists()
    assert not (data / "shown").exists()

    keys = bucket.names()
    assert [key for key in keys if not KEY.fullmatch(key)] == [], "an object is named by its digest alone"
    assert all(sha256_of(bucket.read(key)) == key.rpartition("/")[2] for key in keys[:20])
    held, own = {key.rpartition("/")[2] for key in keys}, referred_to(service, session)
    assert len(held & own) > n_volumes
    key = {"Authorization": f"Bearer {service.key}"}
    image = httpx.get(f"{service.url}/v1/images/{drawn[-1].image}", headers=key, trust_env=False)
    assert sha256_of(image.content) == drawn[-1].image
    archive = data / messages[-1].archive
    assert list(archive.rglob("*_bold.nii.gz"))
    assert list(archive.rglob("*_contactsheet-*.png")), "images come from the bucket too"
    for path in (path for path in data.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path.name

    subject = next(m.subject for m in messages if hasattr(m, "subject"))
    service.done(service.service.erase(subject))
    assert own & {key.rpartition("/")[2] for key in bucket.names()} == set()


def volume(index: int) -> Volume:
    data = np.random.default_rng(index).integers(200, 1000, (24, 24, 12), dtype=np.int16)
    return Volume(data, np.diag([3.0, 3.0, 3.0, 1.0]), 2.0, 1, index, acquired_s=2.0 * index)


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_an_outage_of_the_store_loses_nothing(how: str, bucket: Bucket, tmp_path: Path) -> None:
    volumes = [volume(index) for index in range(10)]
    with running_service(tmp_path, blobs_url=bucket.url) as service, service.console() as console:
        session = console.open_session(console.enrol())
        console.start_run(1, task="rest", tr_s=2.0, n_volumes=len(volumes))
        for each in volumes[:4]:
            console.send(each)
        bucket.proxy.refusing, bucket.proxy.silent = how == "refused", how == "silent"
        bucket.proxy.cut()
        try:
            for each in volumes[4:6]:
                with pytest.raises(StorageUnavailable):
                    console.send(each)
            assert console.waiting() == 2
            began_s = time.monotonic()
            answer = httpx.put(
                f"{service.url}/v1/sessions/{session}/runs/1/volumes/4",
                content=encode_volume(volumes[4]),
                headers={"Authorization": f"Bearer {service.key}"},
                timeout=30.0,
                trust_env=False,
            )
            assert time.monotonic() - began_s < 15.0
            assert (answer.status_code, answer.json()["code"]) == (503, "storage.unavailable")
            assert "AWS_ENDPOINT_URL_S3" in answer.json()["detail"]
            assert bucket.proxy.url not in answer.text
            assert httpx.get(f"{service.url}/v1/health", trust_env=False).status_code == 200
        finally:
            bucket.proxy.refusing = bucket.proxy.silent = False
        for each in volumes[6:]:
            console.send(each)
        assert console.waiting() == 0
        console.end_run(1)
        console.close_session()
        messages = service.wait(session, is_archived, ARCHIVE_S)
        arrived = service.arrived(session)[1]
        assert [each.index for each in arrived] == list(range(len(volumes)))
        assert all(np.array_equal(each.data, true.data) for each, true in zip(arrived, volumes, strict=True))
        assert service.missing(session) == []
        assert [m.index for m in messages if isinstance(m, VolumeProcessed)] == list(range(len(volumes)))
