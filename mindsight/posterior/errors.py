"""The errors of decoded features: how they follow from the tokens of the image seen, and how far they are from that.

Learnt from calibration trials to which the decoder was not fitted, so for any decoder. Decoded features are reduced to
the directions in which they vary most; their mean for an image is linear in the image's tokens (ridge regression), what
is left is Gaussian with a covariance for each stage.

Letters: K trials, I images, X numbers of the decoded features, D numbers of an image's tokens, P directions, B images
or trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import ModelMismatch
from mindsight.posterior.student import Predictive
from mindsight.weights.tensors import map_tensors, write_tensors

ERRORS = "errors.safetensors"  # the file in the folder of a bundle
MAX_DIRECTIONS = 128
IMAGES_PER_DIRECTION = 4  # of calibration, at least
_RELATIVE_PENALTIES = np.logspace(-3.0, 3.0, 49)


@dataclass(frozen=True, eq=False)
class StageErrors:
    """Of one stage.

    of_image : what decoded features differ by from those expected for the image that was seen
    of_any : what they differ by from the mean: how decoded features of whatever image are distributed
    """

    of_image: Predictive
    of_any: Predictive


@dataclass(frozen=True, eq=False)
class DecodingErrors:
    """``(decoded - decoded_X) @ basis_XP = (tokens - tokens_D) @ weights_DP + error``.

    stages : errors of each stage that was calibrated
    """

    decoded_X: NDArray[np.float32]
    basis_XP: NDArray[np.float32]
    tokens_D: NDArray[np.float32]
    weights_DP: NDArray[np.float32]
    stages: Mapping[str, StageErrors]

    @classmethod
    def learn(
        cls, decoded: Mapping[str, NDArray[Any]], tokens_KD: NDArray[Any], image_K: NDArray[Any]
    ) -> DecodingErrors:
        """From calibration trials to which the decoder was not fitted.

        decoded : stage -> (K, ...) features, NaN for a trial without that stage; the last stage, which every trial has,
            determines directions and weights
        tokens_KD : (K, ...) tokens of the image that each trial showed
        image_K : which image that was: trials that showed the same are left out together

        Raises ModelMismatch (``calibration.few``) for too few trials.
        """
        decoded = {stage: _flat(features) for stage, features in decoded.items()}
        images_I, first_I, of_K = np.unique(image_K, return_index=True, return_inverse=True)
        last_KX = list(decoded.values())[-1]
        decoded_X, tokens_D = last_KX.mean(axis=0), _flat(tokens_KD)[first_I].mean(axis=0)
        n_directions = min(MAX_DIRECTIONS, len(images_I) // IMAGES_PER_DIRECTION)
        if n_directions < 1:
            raise ModelMismatch(
                f"expected trials that show {IMAGES_PER_DIRECTION} or more images, got {len(images_I)}: add"
                " calibration runs",
                code="calibration.few",
            )
        basis_XP = _directions(last_KX - decoded_X, n_directions)
        places = {stage: (features - decoded_X) @ basis_XP for stage, features in decoded.items()}
        mean_IP = _mean_by(places[list(places)[-1]], of_K, len(images_I))
        weights_DP, left_out_IP = _ridge(_flat(tokens_KD)[first_I] - tokens_D, mean_IP)
        stages = {}
        for stage, place_KP in places.items():
            there_K = np.isfinite(place_KP).all(axis=1)
            errors_KP = (place_KP - left_out_IP[of_K])[there_K]
            stages[stage] = StageErrors(Predictive.of(errors_KP), Predictive.of(place_KP[there_K]))
        return cls(decoded_X, basis_XP, tokens_D, weights_DP, stages)

    def place(self, decoded: NDArray[Any]) -> NDArray[np.float32]:
        """(B, P) decoded features (B, ...) along the directions."""
        return np.asarray((_flat(decoded) - self.decoded_X) @ self.basis_XP)

    def expected(self, tokens: NDArray[Any]) -> NDArray[np.float32]:
        """(B, P) where features are decoded on average while images with these tokens (B, ...) are seen."""
        return np.asarray((_flat(tokens) - self.tokens_D) @ self.weights_DP)

    def save(self, folder: Path) -> None:
        """Write one safetensors file into the folder of a bundle."""
        tensors: dict[str, NDArray[Any]] = {
            "decoded": self.decoded_X,
            "basis": self.basis_XP.astype(np.float16),
            "tokens": self.tokens_D,
            "weights": self.weights_DP.astype(np.float16),
        }
        for stage, errors in self.stages.items():
            for name, which in (("of_image", errors.of_image), ("of_any", errors.of_any)):
                tensors[f"{stage}.{name}.scatter"] = which.scatter_PP
                tensors[f"{stage}.{name}.n"] = np.array([which.n], np.int64)
        write_tensors(folder / ERRORS, tensors)

    @classmethod
    def load(cls, folder: Path) -> DecodingErrors | None:
        """What ``save`` wrote; None if the folder has no such file. Raises ModelMismatch (``model.file``)."""
        if not (folder / ERRORS).exists():
            return None
        held = map_tensors(folder / ERRORS)
        missing = {"decoded", "basis", "tokens", "weights"} - set(held)
        if missing:
            raise ModelMismatch(f"expected decoding errors, {ERRORS} has no {sorted(missing)}", code="model.file")

        def predictive(stage: str, name: str) -> Predictive:
            return Predictive(np.array(held[f"{stage}.{name}.scatter"]), int(held[f"{stage}.{name}.n"][0]))

        stages = [key.split(".")[0] for key in held if key.endswith(".of_image.n")]
        decoded_X, basis_XP, tokens_D, weights_DP = (
            np.array(held[name], np.float32) for name in ("decoded", "basis", "tokens", "weights")
        )
        errors = {stage: StageErrors(predictive(stage, "of_image"), predictive(stage, "of_any")) for stage in stages}
        return cls(decoded_X, basis_XP, tokens_D, weights_DP, errors)


def _flat(features: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(features, np.float32).reshape(len(features), -1)


def _directions(centred_KX: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """(X, P) the orthonormal directions of greatest variance, through (K, K)."""
    wide_KX = centred_KX.astype(np.float64)
    values_K, left_KK = np.linalg.eigh(wide_KX @ wide_KX.T)
    n = min(n, int((values_K > 1e-9 * values_K[-1]).sum()))
    scaled_KP = left_KK[:, ::-1][:, :n] / np.sqrt(values_K[::-1][:n])
    return np.asarray(centred_KX.T @ scaled_KP.astype(np.float32))


def _mean_by(values_KP: NDArray[np.float32], of_K: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    total_IP = np.zeros((n, values_KP.shape[1]))
    np.add.at(total_IP, of_K, values_KP)
    return np.asarray(total_IP / np.bincount(of_K, minlength=n)[:, None])


def _ridge(
    inputs_ID: NDArray[np.float32], targets_IP: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(D, P) weights, and (I, P) the prediction for each image by weights that were fitted to all others.

    Through (I, I); the penalty has the least error of these predictions, which are exact (leverages).
    """
    wide_ID = inputs_ID.astype(np.float64)
    values_I, vectors_II = np.linalg.eigh(wide_ID @ wide_ID.T)
    values_I = values_I.clip(0.0)
    along_IP = vectors_II.T @ targets_IP

    def left_out(penalty: float) -> NDArray[np.float64]:
        kept_I = values_I / (values_I + penalty)
        leverage_I = np.square(vectors_II) @ kept_I
        fitted_IP = vectors_II @ (kept_I[:, None] * along_IP)
        return np.asarray(targets_IP - (targets_IP - fitted_IP) / (1.0 - leverage_I)[:, None])

    penalties = float(values_I.mean()) * _RELATIVE_PENALTIES
    errors = [float(np.square(targets_IP - left_out(penalty)).sum()) for penalty in penalties]
    penalty = float(penalties[int(np.argmin(errors))])
    dual_IP = vectors_II @ (along_IP / (values_I + penalty)[:, None])
    return np.asarray(inputs_ID.T @ dual_IP.astype(np.float32)), left_out(penalty)
