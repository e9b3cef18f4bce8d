"""A store in a folder: what it leaves on a disk, and on a full one. What every store does is in test_contract.py."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from mindsight.blobs import BlobStore
from mindsight.errors import StorageFull


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


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
