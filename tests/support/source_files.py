"""Small files in the forms that trials come in: the released layout, and BIDS derivatives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import h5py
import nibabel
import numpy as np

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
SHAPE = (5, 4, 3)
MASK = np.zeros(SHAPE, bool)
MASK[1:4, 1:3, 0:2] = True  # 12 voxels


def write_tar(path: Path, rows: np.ndarray) -> None:
    """A webdataset tar with one ``behav.npy`` a sample, beside members that are not read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, row in enumerate(rows):
            for member in ("behav", "past_behav"):
                content = io.BytesIO()
                np.save(content, row[None] if member == "behav" else np.full((15, 17), -1.0))
                info = tarfile.TarInfo(f"sample{i:09d}.{member}.npy")
                info.size = content.tell()
                content.seek(0)
                tar.addfile(info, content)


def behaviour(images: np.ndarray, subject: int, session: int, rows: np.ndarray) -> np.ndarray:
    table = np.full((len(images), 17), -1.0)
    table[:, 0], table[:, 1], table[:, 2], table[:, 5] = images, subject, session, rows
    table[:, 3] = 1 + np.arange(len(images)) * 2 // len(images)
    return table


def write_released(folder: Path, n_images: int = 80, sessions: int = 2, subject: int = 1) -> np.ndarray:
    """60 trials a session: 50 of training images, 10 of the images from 70 on, which are the tests. Returns the betas,
    z-scored by session from its training trials.
    """
    rng, blocks = np.random.default_rng([5, subject]), []
    test = []
    for session in range(1, sessions + 1):
        raw = rng.normal(3.0, 2.0, (60, 12))
        training, shared = np.arange(50), np.arange(50, 60)
        blocks.append((raw - raw[training].mean(0)) / raw[training].std(0))
        rows = 60 * (session - 1)
        images = rng.permutation(70)[:50]
        write_tar(
            folder / f"wds/subj{subject:02d}/train/{session - 1}.tar",
            behaviour(images, subject, session, rows + training),
        )
        test.append(behaviour(70 + np.arange(10), subject, session, rows + shared))
    write_tar(folder / f"wds/subj{subject:02d}/new_test/0.tar", np.concatenate(test))
    betas = np.concatenate(blocks).astype(np.float32)
    with h5py.File(folder / f"betas_all_subj{subject:02d}_fp32_renorm.hdf5", "w") as file:
        file["betas"] = betas
    with h5py.File(folder / "coco_images_224_float16.hdf5", "w") as file:
        file["images"] = rng.random((n_images, 3, 64, 64)).astype(np.float16)
    return betas


def write_nifti(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def write_mask(folder: Path, subject: str = "01", session: str = "a") -> Path:
    name = f"sub-{subject}_ses-{session}_desc-brain_mask.nii.gz"
    return write_nifti(folder / f"sub-{subject}/ses-{session}/func/{name}", MASK.astype(np.uint8))


def betas_image(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*SHAPE, n)).astype(np.float32)


def write_table(path: Path, images: list[str], column: str = "stim_file") -> None:
    path.write_text(f"onset\tduration\t{column}\n" + "".join(f"{4 * i}\t3\t{name}\n" for i, name in enumerate(images)))
