"""PixCorr, SSIM and the resizing, against torch, scikit-image and plain NumPy on the same images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.evaluation import pixcorr, ssim
from mindsight.evaluation.metrics.resize import as_unit_images, resize
from mindsight.simulator.scenes import random_scenes, render_batch


def torch_resize(images_KHWC: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    channels_first = torch.from_numpy(images_KHWC).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(
        channels_first, size=(size, size), mode="bilinear", align_corners=False, antialias=False
    )
    return resized.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def pair() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Four scenes, and what a poor decoder made of them: two right, one of another scene, one noise."""
    rng = np.random.default_rng(7)
    images = render_batch(random_scenes(rng, 4), 64)
    recons = images[[0, 1, 3, 2]] * 0.7 + rng.uniform(0, 60, images.shape)
    recons[3] = rng.uniform(0, 255, recons[3].shape)
    return as_unit_images(images), as_unit_images(recons.astype(np.uint8))


@pytest.mark.parametrize(("size", "to"), [(224, 256), (256, 425), (256, 224), (425, 100), (7, 256), (64, 64)])
def test_resizing_is_torchs_bilinear_without_antialias(size: int, to: int) -> None:
    images = np.random.default_rng(size).random((2, size, size, 3)).astype(np.float32)
    np.testing.assert_allclose(resize(images, to), torch_resize(images, to), atol=5e-6)


def test_images_come_as_bytes_or_as_floats(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    whole = (np.arange(8 * 8 * 3, dtype=np.uint8)).reshape(1, 8, 8, 3)
    np.testing.assert_array_equal(as_unit_images(whole), as_unit_images(whole.astype(np.float32) / np.float32(255)))
    assert pair[0].shape == (4, 256, 256, 3)
    assert pair[0].dtype == np.float32


@pytest.mark.parametrize(
    ("images", "code"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), "pictures.shape"),
        (np.zeros((2, 8, 9, 3), np.uint8), "pictures.shape"),
        (np.full((2, 8, 8, 3), 1.5), "pictures.range"),
        (np.full((2, 8, 8, 3), np.nan), "pictures.range"),
    ],
)
def test_images_that_cannot_be_compared_are_refused(images: NDArray[np.float32], code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        as_unit_images(images)
    assert caught.value.code == code


def test_pixcorr_equals_plain_numpy(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    images, recons = (torch_resize(pictures, 425).astype(np.float64) for pictures in pair)
    expected = [np.corrcoef(image.ravel(), recon.ravel())[0, 1] for image, recon in zip(images, recons, strict=True)]
    score = pixcorr(*pair)
    np.testing.assert_allclose(score.values_K, expected, atol=1e-6)
    assert float(score) == pytest.approx(np.mean(expected), abs=1e-6)
    assert expected[0] > 0.5 > abs(expected[3])


def test_ssim_equals_scikit_image(pair: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    images, recons = (rgb2gray(torch_resize(pictures, 425).astype(np.float64)) for pictures in pair)
    expected = [
        structural_similarity(
            recon, image, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
        )
        for image, recon in zip(images, recons, strict=True)
    ]
    np.testing.assert_allclose(ssim(*pair).values_K, expected, atol=1e-6)
    assert max(expected) - min(expected) > 0.2


def test_an_image_equals_itself_and_a_grey_output_correlates_with_nothing(
    pair: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    images = pair[0]
    np.testing.assert_allclose(pixcorr(images, images).values_K, 1.0)
    np.testing.assert_allclose(ssim(images, images).values_K, 1.0)
    np.testing.assert_array_equal(pixcorr(images, np.full_like(images, 0.3)).values_K, 0.0)
