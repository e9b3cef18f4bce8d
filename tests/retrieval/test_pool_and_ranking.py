"""Candidate pools and exact search, against plain NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindsight.errors import ModelMismatch
from mindsight.retrieval import CandidatePool, cosine_scores, rank
from mindsight.weights.tensors import map_tensors
from support.tolerance import rounding


def make_pool(n: int = 50, shape: tuple[int, ...] = (4, 8), dtype: type = np.float16) -> CandidatePool:
    embeddings = np.random.default_rng(1).normal(size=(n, *shape)).astype(dtype)
    return CandidatePool(tuple(f"c{i}" for i in range(n)), embeddings, tuple("ab"[i % 2] for i in range(n)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_scores_are_cosines(dtype: type) -> None:
    pool = make_pool(dtype=dtype)
    queries = np.random.default_rng(2).normal(size=(3, 4, 8))
    e, q = pool.embeddings.astype(np.float64).reshape(50, -1), queries.reshape(3, -1)
    expected = (q / np.linalg.norm(q, axis=1)[:, None]) @ (e / np.linalg.norm(e, axis=1)[:, None]).T
    np.testing.assert_allclose(cosine_scores(queries, pool), expected, rtol=0, atol=rounding(32))


def test_a_candidate_finds_itself_first() -> None:
    pool = make_pool()
    for place in (0, 17, 49):
        ranking = rank(pool.embeddings[place], pool, k=5)
        assert ranking.indices_K[0] == place
        assert ranking.indices_K.shape == (5,)
        assert ranking.scores_N[place] == pytest.approx(1.0, abs=rounding(32))


def test_ties_keep_the_order_of_the_pool() -> None:
    embeddings = np.tile(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), (40, 1))
    pool = CandidatePool(tuple(map(str, range(80))), embeddings)
    ranking = rank(np.array([1.0, 0.2]), pool, k=80)
    assert list(ranking.indices_K) == [*range(0, 80, 2), *range(1, 80, 2)]


def test_a_vector_without_length_scores_nothing() -> None:
    pool = CandidatePool(("zero", "one"), np.array([[0.0, 0.0], [0.0, 1.0]], np.float32))
    np.testing.assert_array_equal(rank(np.array([0.0, 3.0]), pool, 2).scores_N, [0.0, 1.0])
    np.testing.assert_array_equal(rank(np.zeros(2), pool, 2).scores_N, [0.0, 0.0])


def test_a_pool_read_in_pieces_scores_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    query = np.random.default_rng(3).normal(size=(4, 8))
    whole = rank(query, make_pool(), 50)
    monkeypatch.setattr("mindsight.retrieval.pool.CHUNK_BYTES", 7 * 32 * 4)
    pieces = make_pool()
    assert pieces.rows_per_chunk == 7
    np.testing.assert_allclose(rank(query, pieces, 50).scores_N, whole.scores_N, rtol=0, atol=rounding(32))
    assert pieces.digest == make_pool().digest


def test_a_pool_survives_its_folder(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(picture)
    pool = make_pool()
    pool = CandidatePool(pool.ids, pool.embeddings, pool.labels, (picture, *(None,) * 49))
    files = pool.save(tmp_path / "pool")
    loaded = CandidatePool.load(tmp_path / "pool")
    assert all(file.is_file() for file in files)
    assert loaded.ids == pool.ids
    assert loaded.labels == pool.labels
    assert loaded.images is not None
    assert loaded.images[0] is not None
    assert loaded.images[0].read_bytes() == picture.read_bytes()
    assert loaded.images[1] is None
    assert loaded.digest == pool.digest
    assert isinstance(loaded.embeddings, np.memmap)
    np.testing.assert_array_equal(loaded.embeddings, pool.embeddings)


def test_the_digest_sees_every_change() -> None:
    pool = make_pool()
    renamed = CandidatePool(("other", *pool.ids[1:]), pool.embeddings, pool.labels)
    moved = pool.embeddings.copy()
    moved[3, 1, 1] += 1
    assert len({pool.digest, renamed.digest, CandidatePool(pool.ids, moved, pool.labels).digest}) == 3


@pytest.mark.parametrize(
    ("ids", "shape", "dtype"),
    [(("a", "a"), (2, 3), np.float32), (("a",), (2, 3), np.float32), ((), (0, 3), np.float32), (("a",), (1, 3), int)],
)
def test_what_is_no_pool_is_refused(ids: tuple[str, ...], shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ModelMismatch) as error:
        CandidatePool(ids, np.zeros(shape, dtype))
    assert error.value.code == "pool.invalid"


def test_a_query_of_another_size_and_an_unknown_candidate_are_refused() -> None:
    with pytest.raises(ModelMismatch, match="32 numbers"):
        rank(np.zeros(31), make_pool(), 1)
    with pytest.raises(ModelMismatch, match="50 candidates"):
        make_pool().index_of("absent")


@pytest.mark.parametrize("keep", [4, 60, -5])
def test_a_truncated_pool_is_refused(tmp_path: Path, keep: int) -> None:
    make_pool().save(tmp_path)
    file = tmp_path / "pool.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelMismatch):
        CandidatePool.load(tmp_path)


def test_a_pool_that_was_read_is_on_the_disk_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = CandidatePool(tuple("abcde"), rng.normal(size=(5, 2, 3)).astype(np.float16))
    made.save(tmp_path / "first")
    read = CandidatePool.load(tmp_path / "first")
    read.save(tmp_path / "second")
    first, second = (tmp_path / name / "pool.safetensors" for name in ("first", "second"))
    assert first.samefile(second)
    CandidatePool.load(tmp_path / "second").verify()
    parts = {
        "some": CandidatePool(read.ids[:3], read.embeddings[:3]),
        "turned": CandidatePool(read.ids, read.embeddings[::-1]),
        "chosen": CandidatePool(read.ids, read.embeddings[[1, 0, 2, 3, 4]]),
    }
    for name, part in parts.items():
        part.save(tmp_path / name)
        again = CandidatePool.load(tmp_path / name)
        np.testing.assert_array_equal(again.embeddings, part.embeddings)
        again.verify()
        assert not (tmp_path / name / "pool.safetensors").samefile(first)
    np.testing.assert_array_equal(CandidatePool.load(tmp_path / "first").embeddings, made.embeddings)
    for _ in range(2):  # once more over itself, and over what another has too
        read.save(tmp_path / "first")
        read.save(tmp_path / "second")
    parts["some"].save(tmp_path / "second")
    np.testing.assert_array_equal(CandidatePool.load(tmp_path / "second").embeddings, made.embeddings[:3])
    np.testing.assert_array_equal(CandidatePool.load(tmp_path / "first").embeddings, made.embeddings)
    np.testing.assert_array_equal(read.embeddings, made.embeddings)


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.png", "pool_images/../../secret.png", "link.png"])
def test_a_pools_images_lie_in_its_folder(tmp_path: Path, name: str) -> None:
    """What a pool names as an image is shown to people: one from elsewhere may name none of this machine's files."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    make_pool().save(tmp_path / "pool")
    (tmp_path / "pool/link.png").symlink_to(tmp_path / "secret.png")
    index = json.loads((tmp_path / "pool/pool.json").read_text())
    index["images"][3] = name
    (tmp_path / "pool/pool.json").write_text(json.dumps(index))
    with pytest.raises(ModelMismatch) as error:
        CandidatePool.load(tmp_path / "pool")
    assert error.value.code == "pool.invalid"


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"dtype": "F16", "shape": [2**32, 2**32], "data_offsets": [0, 0]},
        {"dtype": "F16", "shape": [-1], "data_offsets": [0, -2]},
        {"dtype": "F16", "shape": 7, "data_offsets": [0, 14]},
        {"dtype": ["F16"], "shape": [7], "data_offsets": [0, 14]},
        7,
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, entry: object) -> None:
    head = json.dumps({"embeddings": entry}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(64))
    with pytest.raises(ModelMismatch) as error:
        map_tensors(tmp_path / "x.safetensors")
    assert error.value.code == "model.file"


@pytest.mark.parametrize(
    "changed", [{"images": None}, {"images": [3] * 50}, {"ids": 3}, {"ids": [["a"]] * 50}, {"labels": "abc"}]
)
def test_an_index_of_something_else_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    make_pool().save(tmp_path)
    index = json.loads((tmp_path / "pool.json").read_text())
    (tmp_path / "pool.json").write_text(json.dumps({**index, **changed}))
    with pytest.raises(ModelMismatch) as error:
        CandidatePool.load(tmp_path)
    assert error.value.code == "pool.invalid"
