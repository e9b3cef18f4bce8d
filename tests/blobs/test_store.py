from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mindsight.blobs import BlobStore
from mindsight.errors import Diverged, NotFound, StorageFull


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_a_payload_is_named_by_its_content(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    payload = os.urandom(100_000)
    digest = store.put(payload)
    assert digest == hashlib.sha256(payload).hexdigest()
    assert store.get(digest) == payload == store.path(digest).read_bytes()
    assert store.exists(digest)
    assert store.put(payload) == digest
    assert files(tmp_path) == [store.path(digest)]


def test_many_at_once_are_each_there_and_named_in_their_order(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    payloads = [os.urandom(1000 + i) for i in range(30)]
    payloads.append(payloads[0])
    digests = store.put_many(payloads)
    assert [store.get(digest) for digest in digests] == payloads
    assert len(files(tmp_path)) == 30
    assert store.put_many([]) == []
    assert store.put_many([b"one"]) == [hashlib.sha256(b"one").hexdigest()]


def test_pieces_make_the_same_payload_and_an_abandoned_one_leaves_nothing(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with store.writer() as writer:
        for piece in (b"abc", b"", b"defg"):
            writer.write(piece)
        assert (writer.nbytes, writer.digest) == (7, hashlib.sha256(b"abcdefg").hexdigest())
        digest = writer.commit()
    assert store.get(digest) == b"abcdefg"
    with store.writer() as writer:
        writer.write(b"half of it")
    assert files(tmp_path) == [store.path(digest)]


def test_what_is_not_there_and_what_is_no_digest(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    assert not store.exists("0" * 64)
    for name in ("0" * 64, "../../etc/passwd", "A" * 64, "", "0" * 64 + "\n"):
        with pytest.raises(NotFound):
            store.get(name)


def test_a_rotten_file_is_noticed_and_repaired_by_putting_it_again(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"payload")
    store.path(digest).write_bytes(b"pay1oad")
    with pytest.raises(Diverged):
        store.get(digest)
    store.put(b"payload")
    assert store.get(digest) == b"payload"


def test_writers_of_the_same_payload_do_not_disturb_each_other(tmp_path: Path) -> None:
    payload = b"x" * 300_000
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.extend(BlobStore(tmp_path).put(payload) for _ in range(10)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert digests == [hashlib.sha256(payload).hexdigest()] * 40
    assert len(files(tmp_path)) == 1


def test_what_a_killed_writer_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"kept")
    writer = store.writer()
    writer.write(b"half of it")
    assert store.sweep() == 0
    assert store.sweep(older_than_s=-1.0) == 1
    assert files(tmp_path) == [store.path(digest)]
    writer.__exit__(None, None, None)


def test_a_full_disk_is_storage_full_and_leaves_nothing(tmp_path: Path) -> None:
    """A real limit of the kernel (RLIMIT_FSIZE: writing past it is EFBIG), in a process of its own."""
    code = """
import resource, signal, sys
from pathlib import Path
from mindsight.blobs import BlobStore
from mindsight.errors import StorageFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
store = BlobStore(Path(sys.argv[1]))
store.put(b"small")
try:
    store.put(b"x" * 100_000)
except StorageFull as error:
    print(error.code, error.is_transient, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("storage.full True ")
    assert str(tmp_path) not in done.stdout
    assert files(tmp_path) == [BlobStore(tmp_path).path(hashlib.sha256(b"small").hexdigest())]


def test_no_space_left_is_storage_full(tmp_path: Path) -> None:
    """/dev/full answers every write with ENOSPC."""
    store = BlobStore(tmp_path)
    with store.writer() as writer:
        writer._file.close()
        writer._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 -- the writer closes it
        with pytest.raises(StorageFull, match="ENOSPC"):
            writer.write(b"x")
    assert files(tmp_path) == []
