"""Pools from folders of images: what is embedded is what is kept, and a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mindsight.encoders.sources import FolderImages
from mindsight.errors import BadRequest, Conflict, ModelMismatch
from mindsight.retrieval import CandidatePool, Progress, build_pool, rank

SIZE = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(11):
        path = tmp_path / "pictures" / ("a" if i % 2 else "b") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)).save(path)
    (tmp_path / "pictures" / "notes.txt").write_text("no image")
    return tmp_path / "pictures"


def tokens(images: np.ndarray) -> np.ndarray:
    """Four tokens of what a square shows, (B, 4, 3 * 64)."""
    return images.reshape(len(images), 4, -1)[:, :, : 3 * 64].astype(np.float32) / 255 - 0.5


def test_the_pool_holds_the_embeddings_of_the_squares_it_shows(folder: Path, tmp_path: Path) -> None:
    pictures = FolderImages(folder, SIZE)
    pool = build_pool(pictures, tokens, tmp_path / "pool", source="first pixels", batch=4)
    assert pool.ids == (*(f"a/{i:02d}" for i in range(1, 11, 2)), *(f"b/{i:02d}" for i in range(0, 11, 2)))
    assert pool.embeddings.dtype == np.float16
    assert isinstance(pool.embeddings, np.memmap)
    assert pool.source == "first pixels"
    assert pool.images is not None
    for i, image in enumerate(pool.images):
        assert image is not None
        with Image.open(image) as shown:
            square = np.asarray(shown)
        np.testing.assert_array_equal(square, pictures.read(i))
        np.testing.assert_array_equal(pool.embeddings[i], tokens(square[None])[0].astype(np.float16))
    pool.verify()
    in_memory = CandidatePool(pool.ids, np.array(pool.embeddings))
    assert pool.digest == in_memory.digest
    described = json.loads((tmp_path / "pool" / "pool.json").read_text())
    squares = [pictures.read(i).tobytes() for i in range(len(pool))]
    assert described["square_sha256"] == [hashlib.sha256(square).hexdigest() for square in squares]
    assert described["skipped"] == []
    assert rank(tokens(pictures.read(3)[None])[0], pool, 1).indices_K[0] == 3
    assert not (tmp_path / "pool.partial").exists()


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_batches_of_any_size_give_the_same_pool(folder: Path, tmp_path: Path, batch: int) -> None:
    pictures = FolderImages(folder, SIZE)
    reference = build_pool(pictures, tokens, tmp_path / "reference", source="s", batch=4)
    assert build_pool(pictures, tokens, tmp_path / "pool", source="s", batch=batch).digest == reference.digest


def stopping_at(call: int, seen: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    def embed(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        if len(seen) == call:
            raise KeyboardInterrupt
        return tokens(images)

    return embed


@pytest.mark.parametrize("call", [1, 2, 4])
def test_a_stopped_run_goes_on_where_it_was(folder: Path, tmp_path: Path, call: int) -> None:
    pictures = FolderImages(folder, SIZE)
    whole = build_pool(pictures, tokens, tmp_path / "whole", source="s", batch=3)
    first: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        build_pool(pictures, stopping_at(call, first), tmp_path / "pool", source="s", batch=3)
    assert not (tmp_path / "pool").exists()
    again: list[int] = []
    pool = build_pool(pictures, stopping_at(0, again), tmp_path / "pool", source="s", batch=3)
    assert sum(again) == 11 - 3 * (call - 1)
    assert pool.digest == whole.digest
    pool.verify()


def test_another_source_or_a_changed_image_restarts(folder: Path, tmp_path: Path) -> None:
    for change in ("source", "picture"):
        with pytest.raises(KeyboardInterrupt):
            build_pool(FolderImages(folder, SIZE), stopping_at(3, []), tmp_path / change, source="s", batch=3)
        if change == "picture":
            Image.new("RGB", (30, 30), (1, 2, 3)).save(folder / "a" / "01.png")
        seen: list[int] = []
        source = "another" if change == "source" else "s"
        pool = build_pool(FolderImages(folder, SIZE), stopping_at(0, seen), tmp_path / change, source=source, batch=3)
        assert (sum(seen), pool.source) == (11, source)
    np.testing.assert_allclose(pool.embeddings[0][0, :3], np.array([1, 2, 3]) / 255 - 0.5, atol=1e-3)


@pytest.mark.parametrize("stop_after", [None, 1, 2])
def test_images_that_cannot_be_read_are_left_out_and_named(
    folder: Path, tmp_path: Path, stop_after: int | None
) -> None:
    for name in ("a/01", "a/03", "b/04"):  # the first and second of the first batch, and one of the last
        (folder / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes()[:100])
    seen: list[Progress] = []
    build = partial(build_pool, FolderImages(folder, SIZE), out=tmp_path / "pool", source="s", batch=2)
    if stop_after is not None:
        with pytest.raises(KeyboardInterrupt):
            build(stopping_at(stop_after, []))
        progress = tmp_path / "pool.partial" / "progress.jsonl"
        progress.write_text(progress.read_text() + '{"done": 1')  # the machine went down while it was written
    pool = build(tokens, report=seen.append)
    assert pool.ids == ("a/05", "a/07", "a/09", "b/00", "b/02", "b/06", "b/08", "b/10")
    pool.verify()
    for i, id_ in enumerate(pool.ids):
        square = FolderImages(folder, SIZE).read(FolderImages(folder, SIZE).ids.index(id_))
        np.testing.assert_array_equal(pool.embeddings[i], tokens(square[None])[0].astype(np.float16))
    named = [one["id"] for one in json.loads((tmp_path / "pool" / "pool.json").read_text())["skipped"]]
    assert named == ["a/01", "a/03", "b/04"]
    reported = [one.id for progress in seen for one in progress.skipped]
    assert reported == (named if stop_after is None else named[2:])
    assert (seen[-1].done, seen[-1].n) == (11, 11)
    load_file(tmp_path / "pool" / "pool.safetensors")  # the library itself reads the file


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"no image")
    with pytest.raises(BadRequest, match=r"one\.png"):
        build_pool(FolderImages(tmp_path / "pictures", SIZE), tokens, tmp_path / "pool", source="s")


def test_what_cannot_be_kept_is_refused(folder: Path, tmp_path: Path) -> None:
    pictures = FolderImages(folder, SIZE)

    def build(embed: Callable[[np.ndarray], np.ndarray]) -> str:
        with pytest.raises(ModelMismatch) as error:
            build_pool(pictures, embed, tmp_path / "pool", source="s", batch=4)
        assert error.value.code == "pool.embedding"
        return str(error.value)

    assert "a/01" in build(lambda images: np.full((len(images), 5), 1e6))
    assert "a/01" in build(lambda images: np.full((len(images), 5), np.nan))
    assert "4 embeddings" in build(lambda images: np.zeros((3, 5)))
    assert "(4,)" in build(lambda images: np.zeros((len(images), 4 if len(images) == 4 else 5)))
    (tmp_path / "pool").mkdir()
    with pytest.raises(Conflict):
        build_pool(pictures, tokens, tmp_path / "pool", source="s")


def test_folders_that_make_no_pool_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRequest, match="none"):
        FolderImages(tmp_path / "empty", SIZE).ids  # noqa: B018
    Image.new("RGB", (4, 4)).save(folder / "a" / "01.jpg")
    with pytest.raises(BadRequest, match="a/01 twice"):
        FolderImages(folder, SIZE).ids  # noqa: B018
    (folder / "a" / "01.jpg").write_bytes(b"no image")
    with pytest.raises(BadRequest, match=r"01\.jpg"):
        FolderImages(folder, SIZE).read(0)
