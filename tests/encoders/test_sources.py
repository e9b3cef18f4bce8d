"""Images from HDF5 files as MindEye2 and NSD have them, and pools of them from the command line."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mindsight.cli import app
from mindsight.encoders.openclip import ImageTower
from mindsight.encoders.sources import FolderImages, Hdf5Images
from mindsight.errors import BadRequest, NotFound
from mindsight.retrieval import CandidatePool
from mindsight.retrieval.from_files import build_from_files
from support.tiny_open_clip import make_clip, write_config, write_files

N = 12


@pytest.fixture
def squares() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (N, 16, 16, 3), dtype=np.uint8)


def write(path: Path, array: np.ndarray, name: str = "images") -> Path:
    with h5py.File(path, "w") as file:
        file[name] = array
    return path


def test_images_of_the_right_size_come_as_they_are(squares: np.ndarray, tmp_path: Path) -> None:
    halves = np.moveaxis(squares / np.float16(255), -1, 1).astype(np.float16)
    mindeye2 = Hdf5Images(write(tmp_path / "coco.hdf5", halves), 16)
    nsd = Hdf5Images(write(tmp_path / "nsd.hdf5", squares, "imgBrick"), 16)
    assert mindeye2.ids == nsd.ids == tuple(f"{i:02d}" for i in range(N))
    assert mindeye2.stamp != nsd.stamp
    assert mindeye2.read(3).dtype == np.float32
    np.testing.assert_array_equal(mindeye2.read(3), np.moveaxis(halves[3], 0, -1).astype(np.float32))
    np.testing.assert_array_equal(nsd.read(3), squares[3])
    some = Hdf5Images(tmp_path / "nsd.hdf5", 16, np.array([7, 2]))
    assert some.ids == ("07", "02")
    np.testing.assert_array_equal(some.read(0), squares[7])


def test_others_are_resized_like_those_of_a_folder(squares: np.ndarray, tmp_path: Path) -> None:
    for array in (squares, squares / np.float32(255)):
        pictures = Hdf5Images(write(tmp_path / f"{array.dtype}.hdf5", array), 8)
        expected = np.asarray(Image.fromarray(squares[5]).resize((8, 8), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(pictures.read(5), expected)


def test_files_and_rows_that_are_no_images_are_refused(squares: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="got 0"):
        Hdf5Images(write(tmp_path / "flat.hdf5", np.zeros((3, 16, 16))), 16)
    (tmp_path / "no.hdf5").write_bytes(b"no")
    with pytest.raises(BadRequest, match=r"no\.hdf5"):
        Hdf5Images(tmp_path / "no.hdf5", 16)
    path = write(tmp_path / "nsd.hdf5", squares)
    for rows in ([12], [-1], [1, 1], []):
        with pytest.raises(BadRequest, match="0 to 11"):
            Hdf5Images(path, 16, np.array(rows, np.int64))
    broken = squares / np.float32(255)
    broken[2, 0, 0, 0], broken[4, 0, 0, 0] = np.nan, 2.0
    pictures = Hdf5Images(write(tmp_path / "broken.hdf5", broken), 16)
    for i in (2, 4):
        with pytest.raises(BadRequest, match=f"row 0{i}"):
            pictures.read(i)


def run(*arguments: object, code: int = 0) -> str:
    found = CliRunner().invoke(app, ["pool", *map(str, arguments)])
    assert found.exit_code == code, found.output
    return found.output


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "GIF", "BMP"])
def test_another_format_under_the_name_of_a_png_is_refused_before_it_takes_memory(kind: str, tmp_path: Path) -> None:
    """A WebP of 200 bytes that states 13,575 x 7,086 pixels takes 0.7 GB as soon as Pillow opens it."""
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png", kind)
    with pytest.raises(BadRequest, match=r"expected a PNG or JPEG image in one\.png"):
        FolderImages(tmp_path, 16).read(0)


def test_the_command_embeds_with_an_unclip_checkpoints_tower(squares: np.ndarray, tmp_path: Path) -> None:
    weights, config = write_files(tmp_path, make_clip()), write_config(tmp_path)
    floats = squares / np.float32(255)
    floats[4] = np.nan
    pictures = write(tmp_path / "coco.hdf5", np.moveaxis(floats, -1, 1))
    np.save(tmp_path / "shared.npy", np.arange(N) % 2 == 0)
    output = run(
        "build", pictures, tmp_path / "pool", "--weights", weights["unclip"], "--model", config,
        "--rows", tmp_path / "shared.npy", "--batch", 2,
    )  # fmt: skip
    assert "skipped 04" in output
    assert "of 6 images" in output  # how far it was, now and then
    pool = CandidatePool.load(tmp_path / "pool")
    assert pool.ids == ("00", "02", "06", "08", "10")
    tower = ImageTower.load(weights["release"], config)
    assert pool.source == ImageTower.load(weights["unclip"], config).source("tokens", "mindeye2")
    expected = tower.embed(floats[[0, 2, 6, 8, 10]], "tokens", "mindeye2").astype(np.float16)
    np.testing.assert_allclose(np.array(pool.embeddings), expected, atol=2e-3)
    assert pool.images is not None
    assert pool.images[2] is not None
    with Image.open(pool.images[2]) as image:
        np.testing.assert_array_equal(np.asarray(image), squares[6])
    assert pool.digest in run("verify", tmp_path / "pool")


def test_the_command_pools_and_states_by_which_convention(squares: np.ndarray, tmp_path: Path) -> None:
    weights, config = write_files(tmp_path, make_clip())["release"], write_config(tmp_path)
    pictures = write(tmp_path / "nsd.hdf5", squares)
    pool = build_from_files(pictures, tmp_path / "pool", weights=weights, model=str(config), embedding="pooled")
    assert pool.source is not None
    assert "values clip" in pool.source
    expected = ImageTower.load(weights, config).embed(squares, "pooled", "clip")
    np.testing.assert_allclose(np.array(pool.embeddings), expected, atol=1e-3)


def test_without_weights_it_is_the_encoder_that_comes_along(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("one", "two"):
        Image.new("RGB", (90, 70), (len(name) * 20, 90, 30)).save(tmp_path / "pictures" / f"{name}.png")
    pool = build_from_files(tmp_path / "pictures", tmp_path / "pool")
    assert pool.ids == ("one", "two")
    assert pool.token_shape == (16, 64)


def test_options_that_do_not_go_together_are_refused(tmp_path: Path, squares: np.ndarray) -> None:
    pictures, out = write(tmp_path / "nsd.hdf5", squares), tmp_path / "pool"
    with pytest.raises(NotFound, match=r"no\.pt"):
        build_from_files(pictures, out, weights=tmp_path / "no.pt")
    with pytest.raises(BadRequest, match="--weights"):
        build_from_files(pictures, out, embedding="pooled")
    with pytest.raises(BadRequest, match="tokens or pooled"):
        build_from_files(pictures, out, weights=pictures, embedding="both")
    np.save(tmp_path / "rows.npy", np.zeros(3))
    with pytest.raises(BadRequest, match=r"rows\.npy"):
        build_from_files(pictures, out, rows=tmp_path / "rows.npy")
    with pytest.raises(BadRequest, match="HDF5"):
        build_from_files(tmp_path, out, rows=tmp_path / "rows.npy")
