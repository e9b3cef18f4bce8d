"""A bucket: what is asked of the server, what it costs to have it fail, and what a person is told to do."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mindsight.blobs import Blobs, open_blobs, open_shown
from mindsight.errors import MindsightError, StorageFull, StorageUnavailable
from mindsight.settings import Settings
from support.bucket import SECRET, Bucket, needs_bucket, served_bucket

s3 = pytest.importorskip("mindsight.blobs.s3", reason="needs moto, flask-cors and s3fs: make bucket")
pytestmark = needs_bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with served_bucket() as bucket:
        yield bucket


@pytest.fixture
def store(bucket: Bucket, tmp_path: Path) -> Blobs:
    return open_blobs(Settings(data_dir=tmp_path, blobs_url=bucket.url))


def test_nothing_is_kept_here_and_an_object_tells_nothing_but_its_content(
    bucket: Bucket, store: Blobs, tmp_path: Path
) -> None:
    digest = store.put(b"a volume")
    shown = open_shown(Settings(data_dir=tmp_path, blobs_url=bucket.url)).put(b"an image")
    assert f"decoder/blobs/{digest[:2]}/{digest}" in bucket.names()
    assert f"decoder/shown/{shown[:2]}/{shown}" in bucket.names()
    assert bucket.read(f"decoder/blobs/{digest[:2]}/{digest}") == b"a volume"
    details = bucket.details(f"decoder/blobs/{digest[:2]}/{digest}")
    assert details["Metadata"] == {}
    assert details["ContentType"] == "binary/octet-stream"
    assert list(tmp_path.iterdir()) == []


def test_a_removed_payload_leaves_no_version(tmp_path: Path) -> None:
    with served_bucket("kept-versions") as bucket:
        bucket.keep_versions()
        store = open_blobs(Settings(data_dir=tmp_path, blobs_url=bucket.url))
        for _ in range(2):
            digest = store.put(b"erased")
        kept = store.put(b"kept")
        assert bucket.n_versions() == 3
        store.remove([digest])
        assert bucket.n_versions() == 1
        assert store.get(kept) == b"kept"


def test_a_connection_that_was_lost_is_made_again(bucket: Bucket, store: Blobs) -> None:
    digest = store.put(b"before")
    bucket.proxy.cut()
    assert store.get(digest) == b"before"


def test_a_server_that_is_away_is_told_once_and_then_at_once(bucket: Bucket, store: Blobs) -> None:
    digest = store.put(b"before")
    bucket.proxy.refusing = True
    bucket.proxy.cut()
    try:
        with pytest.raises(StorageUnavailable, match="check AWS_ENDPOINT_URL_S3, the server and the network") as error:
            store.put(b"meanwhile")
        assert (error.value.code, error.value.is_transient) == ("storage.unavailable", True)
        began_s = time.monotonic()
        for _ in range(20):
            with pytest.raises(StorageUnavailable, match="none a moment ago"):
                store.get(digest)
        assert time.monotonic() - began_s < 0.5
    finally:
        bucket.proxy.refusing = False
    time.sleep(s3.AWAY_S)
    assert store.get(digest) == b"before"
    assert not store.exists(hashlib.sha256(b"meanwhile").hexdigest())


def test_a_server_that_is_silent_is_waited_for_no_longer_than_the_deadline(
    bucket: Bucket, store: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(b"before")
    monkeypatch.setattr(s3, "DEADLINE_S", 0.5)
    bucket.proxy.silent = True
    try:
        began_s = time.monotonic()
        with pytest.raises(StorageUnavailable) as error:
            store.put(b"meanwhile")
        assert 0.4 < time.monotonic() - began_s < 5.0
        assert error.value.code == "storage.unavailable"
    finally:
        bucket.proxy.silent = False


def refused(error: MindsightError, code: str, do: str) -> None:
    assert (error.code, error.is_transient) == ("storage.closed", True)
    assert f"got {code}: " in str(error)
    assert do in str(error)


def test_a_bucket_that_is_not_there_is_no_missing_payload(bucket: Bucket, tmp_path: Path) -> None:
    store = open_blobs(Settings(data_dir=tmp_path, blobs_url="s3://another-bucket"))
    for ask in (lambda: store.put(b"x"), lambda: store.get("0" * 64), lambda: list(store.listed())):
        with pytest.raises(StorageUnavailable) as error:
            ask()
        refused(error.value, "NoSuchBucket", "correct MINDSIGHT_BLOBS_URL")


@pytest.mark.parametrize(
    ("variable", "value", "code", "do"),
    [
        ("AWS_ACCESS_KEY_ID", None, "NoCredentialsError", "AWS_SHARED_CREDENTIALS_FILE"),
        ("AWS_ENDPOINT_URL_S3", "no address", "an address that cannot be read", "correct AWS_ENDPOINT_URL_S3"),
    ],
)
def test_what_is_wrong_with_the_environment_is_named(
    variable: str, value: str | None, code: str, do: str, store: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3._files.cache_clear()
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    try:
        with pytest.raises(StorageUnavailable) as error:
            s3.S3Blobs("s3://lab-payloads", "blobs").put(b"x")
        refused(error.value, code, do)
    finally:
        s3._files.cache_clear()


def test_a_key_that_the_server_does_not_know(bucket: Bucket, store: Blobs) -> None:
    digest = store.put(b"before")
    bucket.check_keys()
    try:
        for ask in (lambda: store.put(b"x"), lambda: store.get(digest), lambda: store.remove([digest])):
            with pytest.raises(StorageUnavailable) as error:
                ask()
            refused(error.value, "InvalidAccessKeyId", "AWS_SHARED_CREDENTIALS_FILE")
        with pytest.raises(StorageUnavailable):
            store.exists(digest)
    finally:
        bucket.check_keys(False)
    assert store.get(digest) == b"before"


class Answering(BaseHTTPRequestHandler):
    """A server that has nothing but one answer."""

    status, code = 507, "QuotaExceeded"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = f"<Error><Code>{self.code}</Code></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "code", "ours"),
    [
        (403, "QuotaExceeded", "storage.full"),
        (507, "XMinioStorageFull", "storage.full"),
        (403, "InvalidAccessKeyId", "storage.closed"),
        (403, "SignatureDoesNotMatch", "storage.closed"),
        (403, "AccessDenied", "storage.closed"),
        (301, "PermanentRedirect", "storage.closed"),
        (404, "NoSuchBucket", "storage.closed"),
        (501, "NotImplemented", "storage.unavailable"),
        (400, "XAmzContentSHA256Mismatch", "storage.unavailable"),
    ],
)
def test_what_a_server_says_is_told_with_what_to_do(
    status: int, code: str, ours: str, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    monkeypatch.setattr(Answering, "code", code)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        s3._files.cache_clear()
        try:
            with pytest.raises(StorageFull) as error:
                s3.S3Blobs("s3://lab-payloads", "blobs").put(b"x")
        finally:
            s3._files.cache_clear()
            server.shutdown()
            thread.join(10)
    assert error.value.code == ours
    assert code in str(error.value)
    assert re.search(r": (free|check|give|set|make) ", str(error.value))
    assert SECRET not in str(error.value)
    assert str(server.server_port) not in str(error.value)


def test_without_its_packages_what_to_install_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from mindsight.blobs import open_blobs\n"
        "from mindsight.errors import NotInstalled\n"
        "from mindsight.settings import Settings\n"
        "try:\n    open_blobs(Settings(blobs_url='s3://lab-payloads'))\n"
        "except NotInstalled as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == 'MINDSIGHT_BLOBS_URL needs s3fs, not installed here: pip install "mindsight[s3]"\n'
