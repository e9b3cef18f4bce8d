"""Each process reads the part of a bundle that it needs, and a large pool holds none of them up."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mindsight.decoders.base import PriorOptions
from mindsight.errors import ModelMismatch
from mindsight.generators.base import SampleOptions
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.subjects.bundle.decoder import Sampling
from mindsight.subjects.bundle.description import DESCRIPTION, digest_of, pool_ids, pool_size, read_description
from mindsight.subjects.bundle.folder import Bundle
from mindsight.subjects.bundle.pool import load_pool
from mindsight.subjects.bundle.space import load_space
from mindsight.weights.tensors import tensor_header
from support.small_bundle import make_bundle

N_LARGE = 73_000  # candidates of NSD's size
TOKEN_SHAPE = (256, 1664)


def enlarge_pool(folder: Path) -> int:
    """Puts a pool of NSD's size, as a sparse file that takes no room on the disk, in the place of the bundle's own."""
    header = tensor_header("embeddings", np.dtype(np.float16), (N_LARGE, *TOKEN_SHAPE))
    n_bytes = len(header) + 2 * N_LARGE * TOKEN_SHAPE[0] * TOKEN_SHAPE[1]
    path = folder / "pool" / "pool.safetensors"
    path.write_bytes(header)
    os.truncate(path, n_bytes)
    index = json.loads((folder / "pool" / "pool.json").read_text())
    index |= {"ids": [f"{i:05d}" for i in range(N_LARGE)], "labels": None, "images": [None] * N_LARGE}
    (folder / "pool" / "pool.json").write_text(json.dumps(index))
    described = json.loads((folder / DESCRIPTION).read_text())
    described["files"]["pool/pool.json"] = hashlib.sha256((folder / "pool" / "pool.json").read_bytes()).hexdigest()
    described["sizes"]["pool/pool.safetensors"] = n_bytes
    described["pool"]["size"] = N_LARGE
    described["digest"] = digest_of(described)
    (folder / DESCRIPTION).write_text(json.dumps(described))
    return n_bytes


def test_ingest_s_part_is_what_the_whole_bundle_has(tmp_path: Path) -> None:
    made = replace(make_bundle(), baseline=Baseline(mean_signal=800.0, tsnr=60.0))
    whole = made.save(tmp_path / "bundle")
    part = load_space(tmp_path / "bundle")
    assert (part.options, part.baseline) == (whole.options, whole.baseline)
    np.testing.assert_array_equal(part.space.mask_XYZ, whole.space.mask_XYZ)
    np.testing.assert_array_equal(part.space.reference.data, whole.space.reference.data)
    np.testing.assert_array_equal(part.statistics.std_V, whole.statistics.std_V)


def test_ingest_s_part_of_a_bundle_with_a_60_gb_pool_is_there_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    make_bundle().save(folder)
    assert enlarge_pool(folder) > 60e9
    began_s = time.process_time()
    assert load_space(folder).space.n_voxels == 12
    assert pool_size(folder) == N_LARGE
    # hashing the pool takes half a minute of computing even where the disk holds none of it
    assert time.process_time() - began_s < 1.0


def test_a_pool_too_large_to_be_hashed_is_known_by_its_size(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    make_bundle().save(folder)
    n_bytes = enlarge_pool(folder)
    began_s = time.process_time()
    with pytest.raises(ModelMismatch, match="decoder into the pool"):  # verified, and then found not to fit
        Bundle.load(folder)
    assert time.process_time() - began_s < 5.0
    os.truncate(folder / "pool" / "pool.safetensors", n_bytes - 2)
    with pytest.raises(ModelMismatch) as error:
        Bundle.load(folder)
    assert error.value.code == "bundle.tampered"


def test_the_pool_is_loaded_and_verified_without_the_rest(tmp_path: Path) -> None:
    made = make_bundle().save(tmp_path / "bundle")
    (tmp_path / "bundle" / "decoder.safetensors").write_bytes(b"spoilt")
    pool = load_pool(tmp_path / "bundle")
    assert (pool.ids, pool.digest) == (made.pool.ids, made.pool_digest)
    (tmp_path / "bundle" / "pool" / "pool.json").write_text("{}")
    with pytest.raises(ModelMismatch, match=r"pool\.json"):
        load_pool(tmp_path / "bundle")


def test_a_bundle_records_how_reconstructions_are_sampled(tmp_path: Path) -> None:
    chosen = Sampling(prior=PriorOptions(steps=5, draws=2), generator=SampleOptions(steps=8))
    assert replace(make_bundle(), sampling=chosen).save(tmp_path / "bundle").sampling == chosen


def test_a_bundle_from_before_is_sampled_as_it_was(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    described = json.loads((tmp_path / "bundle" / DESCRIPTION).read_text())
    assert described.pop("sampling") == {
        "prior": {"steps": 10, "draws": 8},
        "generator": {"steps": None, "preset": None},
        "in_pool_prior": None,
    }
    described["digest"] = digest_of(described)
    (tmp_path / "bundle" / DESCRIPTION).write_text(json.dumps(described))
    loaded = Bundle.load(tmp_path / "bundle")
    assert loaded.sampling == Sampling(prior=PriorOptions(steps=10, draws=8), generator=SampleOptions())


def test_a_decoder_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    described = json.loads((tmp_path / "bundle" / DESCRIPTION).read_text()) | {"kind": "neuropictor"}
    described["digest"] = digest_of(described)
    (tmp_path / "bundle" / DESCRIPTION).write_text(json.dumps(described))
    with pytest.raises(ModelMismatch) as error:
        Bundle.load(tmp_path / "bundle")
    assert error.value.code == "decoder.kind"


@pytest.mark.parametrize("name", ["space.safetensors", "statistics.safetensors", DESCRIPTION])
def test_ingest_s_part_is_verified(tmp_path: Path, name: str) -> None:
    make_bundle().save(tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    with pytest.raises(ModelMismatch):
        load_space(tmp_path / "bundle")
    path.unlink()
    with pytest.raises(ModelMismatch):
        load_space(tmp_path / "bundle")


def test_a_spoilt_decoder_does_not_concern_ingest(tmp_path: Path) -> None:
    make_bundle().save(tmp_path / "bundle")
    (tmp_path / "bundle" / "decoder.safetensors").write_bytes(b"spoilt")
    load_space(tmp_path / "bundle")
    with pytest.raises(ModelMismatch, match=r"decoder\.safetensors"):
        Bundle.load(tmp_path / "bundle")


def test_the_description_names_the_pool(tmp_path: Path) -> None:
    made = make_bundle().save(tmp_path / "bundle")
    described = read_description(tmp_path / "bundle")
    assert (described.kind, described.subject, described.digest) == ("linear", "sub-01", made.digest)
    assert (described.pool.size, described.pool.digest) == (3, made.pool_digest)
    assert (pool_size(tmp_path / "bundle"), pool_ids(tmp_path / "bundle")) == (3, frozenset("abc"))
    assert (pool_size(tmp_path), pool_ids(tmp_path)) == (None, None)


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, '{"pool": 3}', '{"version": 1}'])
def test_a_description_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / DESCRIPTION).write_text(text)
    assert pool_size(tmp_path) is None
    with pytest.raises(ModelMismatch):
        read_description(tmp_path)
