"""What every store of payloads does: one in a folder, and one in a bucket of a server, over its protocol."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mindsight.blobs import Blobs, BlobStore, open_blobs, open_shown
from mindsight.errors import BadVolume, Diverged, NotFound
from mindsight.settings import Settings
from support.bucket import Bucket, needs_bucket, served_bucket


@dataclass(frozen=True)
class Place:
    """A store that is empty at first. spoil : changes the content of a payload; names : of all that is stored"""

    open: Callable[[], Blobs]
    spoil: Callable[[str], object]
    names: Callable[[], list[str]]


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with served_bucket() as bucket:
        yield bucket


@pytest.fixture(params=["folder", pytest.param("bucket", marks=needs_bucket)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        root = tmp_path / "blobs"
        folder = BlobStore(root)
        return Place(
            lambda: BlobStore(root),
            lambda digest: folder.path(digest).write_bytes(b"spoilt"),
            lambda: [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()],
        )
    bucket: Bucket = request.getfixturevalue("bucket")
    settings = Settings(data_dir=tmp_path, blobs_url=f"{bucket.url}/{tmp_path.name}")
    head = f"decoder/{tmp_path.name}/blobs/"
    return Place(
        lambda: open_blobs(settings),
        bucket.spoil,
        lambda: [key.removeprefix(head) for key in bucket.names() if key.startswith(head)],
    )


def name_of(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def test_a_payload_is_named_by_its_content_and_by_nothing_else(place: Place) -> None:
    payload = os.urandom(100_000)
    digest = place.open().put(payload)
    assert digest == hashlib.sha256(payload).hexdigest()
    other = place.open()
    assert other.get(digest) == payload
    assert other.beginning(digest, 16) == payload[:16]
    assert other.size(digest) == 100_000
    assert other.exists(digest)
    assert other.put(payload) == digest
    assert place.names() == [name_of(digest)]


def test_an_empty_payload_is_one(place: Place) -> None:
    store = place.open()
    digest = store.put(b"")
    assert (store.get(digest), store.size(digest), store.beginning(digest, 16)) == (b"", 0, b"")
    assert store.exists(digest)


def test_many_at_once_are_each_there_and_named_in_their_order(place: Place) -> None:
    store = place.open()
    payloads = [os.urandom(1000 + i) for i in range(12)]
    payloads.append(payloads[0])
    digests = store.put_many(payloads)
    assert [store.get(digest) for digest in digests] == payloads
    assert len(place.names()) == 12
    assert store.put_many([]) == []
    assert store.put_many([b"one"]) == [hashlib.sha256(b"one").hexdigest()]


def test_pieces_make_the_same_payload_and_an_abandoned_one_leaves_nothing(place: Place) -> None:
    store = place.open()
    with store.writer() as writer:
        for piece in (b"abc", b"", b"defg"):
            writer.write(piece)
        assert (writer.nbytes, writer.digest) == (7, hashlib.sha256(b"abcdefg").hexdigest())
        digest = writer.commit()
    assert store.get(digest) == b"abcdefg"
    with store.writer() as writer:
        writer.write(b"half of it")
    with suppress(BadVolume), store.writer() as writer:
        writer.write(b"half of another")
        raise BadVolume("as a console that stops in the middle")
    assert place.names() == [name_of(digest)]


def test_a_payload_longer_than_what_is_held_in_memory(place: Place) -> None:
    store = place.open()
    pieces = [os.urandom(1 << 20) for _ in range(9)]
    with store.writer() as writer:
        for piece in pieces:
            writer.write(piece)
        digest = writer.commit()
    assert store.get(digest) == b"".join(pieces)


def test_what_is_not_there_and_what_is_no_digest(place: Place) -> None:
    store = place.open()
    assert not store.exists("0" * 64)
    for name in ("0" * 64, "../../etc/passwd", "A" * 64, "", "0" * 64 + "\n"):
        for ask in (store.get, store.size, lambda name: store.beginning(name, 4)):
            with pytest.raises(NotFound) as error:
                ask(name)
            assert error.value.code == "blob.unknown"


def test_a_spoilt_payload_is_noticed_and_repaired_by_putting_it_again(place: Place) -> None:
    store = place.open()
    digest = store.put(b"payload")
    place.spoil(digest)
    with pytest.raises(Diverged) as error:
        store.get(digest)
    assert error.value.code == "blob.corrupt"
    store.put(b"payload")
    assert store.get(digest) == b"payload"


def test_writers_of_the_same_payload_do_not_disturb_each_other(place: Place) -> None:
    payload, digests = b"x" * 300_000, list[str]()
    threads = [
        threading.Thread(target=lambda: digests.extend(place.open().put(payload) for _ in range(3))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert digests == [hashlib.sha256(payload).hexdigest()] * 12
    assert len(place.names()) == 1


def test_what_is_listed_is_what_is_there_and_since_when(place: Place) -> None:
    store = place.open()
    assert list(store.listed()) == []
    digests = {store.put(b"%d" % number) for number in range(5)}
    listed = list(store.listed())
    assert {stored.digest for stored in listed} == digests
    assert all(abs(stored.modified_t - time.time()) < 60.0 for stored in listed)


def test_what_is_removed_is_gone_and_the_rest_stays(place: Place) -> None:
    store = place.open()
    first, second, third = (store.put(b"%d" % number) for number in range(3))
    store.remove([first, third, "0" * 64])
    assert [stored.digest for stored in store.listed()] == [second]
    with pytest.raises(NotFound):
        store.get(first)
    store.remove([])
    assert store.put(b"0") == first
    assert store.get(first) == b"0"


def test_a_payload_that_was_never_finished_is_swept_and_no_other(place: Place) -> None:
    store = place.open()
    digest = store.put(b"kept")
    writer = store.writer()
    writer.write(b"half of it")
    assert store.sweep() == 0
    store.sweep(older_than_s=-1.0)
    assert place.names() == [name_of(digest)]
    writer.__exit__(None, None, None)


def test_what_was_shown_is_apart_from_what_was_made(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    shown = open_shown(settings).put(b"shown")
    assert not open_blobs(settings).exists(shown)
    assert (settings.shown_dir / name_of(shown)).is_file()
