"""Recorded sources through the configuration: images from files or the pool, and what is refused before any step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mindsight.errors import BadRequest, MindsightError
from mindsight.features import FeatureSpace
from mindsight.retrieval import CandidatePool
from support.source_files import betas_image, write_mask, write_nifti, write_released, write_table
from training.pretraining.config import read_config
from training.pretraining.data import make_material, make_split, open_data

CONFIG = """
out = "run"
steps = 2
batch = 8
learning_rate = 1e-3
pool = "pool"
images = "released/coco_images_224_float16.hdf5"
[split]
validation = 0.1
[[data]]
kind = "released"
folder = "released"
subjects = [1, 2]
"""
N_IMAGES = 80


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Two released subjects, and a pool of random tokens of all images."""
    (tmp_path / "released").mkdir()
    for subject in (1, 2):
        write_released(tmp_path / "released", subject=subject)
    save_pool(tmp_path, N_IMAGES)
    (tmp_path / "pretrain.toml").write_text(CONFIG)
    return tmp_path


def save_pool(folder: Path, n: int, shape: tuple[int, ...] = (4, 8)) -> None:
    tokens = np.random.default_rng(0).standard_normal((n, *shape), np.float32)
    space = FeatureSpace("random", shape, "none", "0" * 64)
    CandidatePool(tuple(f"{i:02d}" for i in range(n)), tokens, recorded_space=space).save(folder / "pool")


def opened(folder: Path) -> object:
    config = read_config(folder / "pretrain.toml")
    data = open_data(config)
    return make_material(config, data, make_split(config, data))


def test_released_files_through_the_configuration(work: Path) -> None:
    config = read_config(work / "pretrain.toml")
    data = open_data(config)
    manifest = make_split(config, data)
    material = make_material(config, data, manifest)
    assert [subject.subject for subject in data.dataset.subjects] == ["01", "02"]
    parts = {image: row["part"] for image, row in manifest["images"].items()}
    assert {image for image, part in parts.items() if part == "test"} == {f"{i}" for i in range(70, 80)}
    for held_out in material.test:
        assert held_out.images == tuple(f"{i}" for i in range(70, 80))
        assert [len(rows) for rows in held_out.rows] == [2] * 10  # both sessions' showings
    assert not set(material.batches.part(0).images) & {f"{i}" for i in range(70, 80)}


@pytest.mark.parametrize(
    ("spoil", "expected", "code"),
    [
        (lambda f: save_pool(f, 79), "got none for 1 of", "dataset.images"),
        (lambda f: save_pool(f, N_IMAGES, (32,)), "expected a pool of tokens", "features.space"),
        (lambda f: fewer_images(f), "of images 0 to 59", "dataset.half"),
        (lambda f: spoiled_image(f), r"expected floats in [0, 1] in row 71", "pictures.unreadable"),
        (lambda f: spoiled_betas(f, np.nan), "NaN or infinity in 1 of 12 voxels of subject 02", "dataset.not_finite"),
        (lambda f: spoiled_betas(f, 1.5), "1 constant voxels of 12 in subject 02", "dataset.constant"),
    ],
)
def test_bad_input_is_refused_before_any_step(
    work: Path, spoil: Callable[[Path], None], expected: str, code: str
) -> None:
    spoil(work)
    with pytest.raises(MindsightError) as raised:
        opened(work)
    assert expected in str(raised.value)
    assert raised.value.code == code
    assert not (work / "run").exists()


def fewer_images(folder: Path) -> None:
    path = folder / "released/coco_images_224_float16.hdf5"
    with h5py.File(path) as file:
        images = file["images"][:60]
    with h5py.File(path, "w") as file:
        file["images"] = images


def spoiled_image(folder: Path) -> None:
    with h5py.File(folder / "released/coco_images_224_float16.hdf5", "r+") as file:
        file["images"][71, 0, 3, 3] = np.nan


def spoiled_betas(folder: Path, value: float) -> None:
    with h5py.File(folder / "released/betas_all_subj02_fp32_renorm.hdf5", "r+") as file:
        file["betas"][:60, 5] = value


def test_a_pool_with_its_own_images_needs_no_others(work: Path) -> None:
    from PIL import Image

    pool = CandidatePool.load(work / "pool")
    files = []
    for i in range(N_IMAGES):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(work / f"{i}.png")
        files.append(work / f"{i}.png")
    CandidatePool(pool.ids, pool.embeddings, images=tuple(files), recorded_space=pool.space).save(work / "pool")
    (work / "pretrain.toml").write_text(CONFIG.replace("images = ", "# images = "))
    config = read_config(work / "pretrain.toml")
    data = open_data(config)
    assert data.images.ids == pool.ids
    np.testing.assert_array_equal(data.images.read(7), np.random.default_rng(7).integers(0, 256, (20, 20, 3), np.uint8))
    make_split(config, data)
    stored = next((work / "pool").rglob("*07.png"))
    stored.write_bytes(stored.read_bytes()[:30])
    with pytest.raises(BadRequest, match="expected an image of 07 in the pool") as raised:
        make_split(config, data)
    assert raised.value.code == "pictures.unreadable"


def test_simulated_and_recorded_data_are_not_mixed(work: Path) -> None:
    (work / "pretrain.toml").write_text(CONFIG + '[[data]]\nkind = "simulated"\n')
    with pytest.raises(BadRequest, match="expected simulated data alone"):
        opened(work)
    (work / "pretrain.toml").write_text(CONFIG.replace("pool = ", "# pool = "))
    with pytest.raises(BadRequest, match="none for pool"):
        opened(work)


def test_every_kind_of_source_is_read_from_beside_the_configuration(work: Path) -> None:
    """The tables of the configuration; what the readers make of them is tested with the readers."""
    tables = """
        [[data]]
        kind = "archive"
        folders = ["one", "two"]
        [[data]]
        kind = "bids"
        folder = "derivatives"
        subjects = ["01"]
        task = "view"
        mask = "mask.nii.gz"
        """
    (work / "pretrain.toml").write_text(CONFIG + tables)
    released, archive, bids = read_config(work / "pretrain.toml").data
    assert released.folder == work / "released"
    assert archive.folders == (work / "one", work / "two")
    assert (bids.folder, bids.mask, bids.events) == (work / "derivatives", work / "mask.nii.gz", None)


def test_archives_and_derivatives_through_the_configuration(work: Path) -> None:
    for run in (1, 2, 3, 4):
        stem = work / f"derivatives/sub-03/ses-a/func/sub-03_ses-a_task-view_run-{run}_betas"
        write_nifti(stem.with_name(stem.name + ".nii.gz"), betas_image(20, run))
        shown = [f"pictures/{i % 70:02d}.png" for i in range(20 * run, 20 * run + 20)]
        write_table(stem.with_name(stem.name + ".tsv"), shown)
    write_mask(work / "derivatives", "03")
    (work / "pretrain.toml").write_text(CONFIG + '[[data]]\nkind = "bids"\nfolder = "derivatives"\n')
    config = read_config(work / "pretrain.toml")
    data = open_data(config)
    assert [subject.subject for subject in data.dataset.subjects] == ["01", "02", "03"]
    (work / "pretrain.toml").write_text(CONFIG + '[[data]]\nkind = "archive"\nfolders = ["derivatives"]\n')
    with pytest.raises(BadRequest, match="expected the archive of a session, derivatives is none"):
        opened(work)
