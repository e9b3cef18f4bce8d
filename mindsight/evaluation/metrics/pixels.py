"""Metrics on the pixels themselves: PixCorr and SSIM.

Knows nothing of networks or brains. Letters: K images, H and W pixels.

Both compare at 425 x 425, the size of the images that were shown (Scotti et al. 2024, MindEye2, appendix A.9).
Images come in as ``as_unit_images`` makes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.evaluation.metrics.metric import PIXCORR, SSIM, Score
from mindsight.evaluation.metrics.resize import resize
from mindsight.evaluation.metrics.similarity import row_correlations

SHOWN_SIZE = 425
_LUMA = np.array([0.2125, 0.7154, 0.0721])  # ITU-R BT.709 weights as scikit-image's rgb2gray has them
_SIGMA, _RADIUS, _C1, _C2 = 1.5, 5, 0.01**2, 0.03**2


def pixcorr(images_KHWC: NDArray[np.floating[Any]], recons_KHWC: NDArray[np.floating[Any]]) -> Score:
    """Pearson correlation of all pixel values of image and reconstruction; 0 if one of them is constant."""
    pairs = zip(images_KHWC, recons_KHWC, strict=True)
    return Score(PIXCORR, np.array([row_correlations(_shown(image), _shown(recon))[0] for image, recon in pairs]))


def ssim(images_KHWC: NDArray[np.floating[Any]], recons_KHWC: NDArray[np.floating[Any]]) -> Score:
    """Structural similarity of the grey images (Wang et al., IEEE Trans. Image Process. 13, 2004).

    Gaussian window of sigma 1.5 cut at 3.5 sigma (11 pixels), population covariance, data range 1, the outer 5 pixels
    left out of the mean: scikit-image's ``structural_similarity(gaussian_weights=True, use_sample_covariance=False)``.
    """
    pairs = zip(images_KHWC, recons_KHWC, strict=True)
    return Score(SSIM, np.array([_ssim(_grey(image), _grey(recon)) for image, recon in pairs]))


def _shown(image_HWC: NDArray[Any]) -> NDArray[np.float64]:
    return resize(image_HWC[None].astype(np.float64), SHOWN_SIZE).reshape(1, -1)


def _grey(image_HWC: NDArray[Any]) -> NDArray[np.float64]:
    # grey first, then larger: both are linear, and one channel is a third of the work
    grey_HW = image_HWC.astype(np.float64) @ _LUMA
    return resize(grey_HW[None, :, :, None], SHOWN_SIZE)[0, :, :, 0]


def _ssim(x_HW: NDArray[np.float64], y_HW: NDArray[np.float64]) -> float:
    from scipy.ndimage import gaussian_filter

    def local_mean(values_HW: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth_HW: NDArray[np.float64] = gaussian_filter(values_HW, _SIGMA, mode="reflect", radius=_RADIUS)
        return smooth_HW

    mx, my = local_mean(x_HW), local_mean(y_HW)
    vx = local_mean(x_HW * x_HW) - mx * mx
    vy = local_mean(y_HW * y_HW) - my * my
    cxy = local_mean(x_HW * y_HW) - mx * my
    map_HW = ((2 * mx * my + _C1) * (2 * cxy + _C2)) / ((mx**2 + my**2 + _C1) * (vx + vy + _C2))
    inner = slice(_RADIUS, -_RADIUS)
    return float(map_HW[inner, inner].mean())
