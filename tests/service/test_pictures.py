from __future__ import annotations

from pathlib import Path

import pytest

from mindsight.blobs import BlobStore
from service import pictures as module
from service.pictures import Pictures

PNG = b"\x89PNG\r\n\x1a\n"


def test_an_image_that_was_erased_is_not_shown_from_memory(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    pictures = Pictures(store)
    digest = store.put(PNG + b"x")
    assert pictures.kept(digest) is None
    picture = pictures.get(digest)
    assert picture is not None
    assert (picture.payload, picture.media_type) == (PNG + b"x", "image/png")
    assert pictures.kept(digest) is picture
    store.path(digest).unlink()
    assert pictures.kept(digest) is None
    assert pictures.get(digest) is None


def test_memory_holds_the_last_images_only_and_nothing_that_is_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 2500)
    store = BlobStore(tmp_path)
    pictures = Pictures(store)
    digests = [store.put(PNG + bytes([k]) * 1000) for k in range(4)]
    for digest in digests[:2]:
        pictures.get(digest)
    pictures.get(digests[0])  # used again: the other one goes first
    pictures.get(digests[2])
    assert [pictures.kept(digest) is not None for digest in digests] == [True, False, True, False]
    assert pictures.get(store.put(b"voxels")) is None


def test_an_image_of_a_store_on_the_network_is_looked_for_again_after_some_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its store is not asked while an image is sent from memory; one that was erased is gone soon after."""
    store = BlobStore(tmp_path)
    monkeypatch.setattr(store, "is_near", False)
    pictures, digest = Pictures(store), store.put(PNG)
    assert pictures.get(digest) is not None
    store.remove([digest])
    assert pictures.kept(digest) is not None
    monkeypatch.setattr(module, "SEEN_S", -1.0)
    assert pictures.kept(digest) is None
    assert pictures.get(digest) is None
    store.put(PNG)
    assert pictures.get(digest) is not None
    assert pictures._n_bytes == len(PNG)
