"""What lies above a new subject's ridge layer: what the layer is fitted to, and what its predictions are compared with.

Two of them: nothing, when the layer predicts the pool's embeddings themselves; or the backbone that subjects share.
Knows nothing of betas or how the layer is fitted. Torch is imported with a backbone only.

Letters: K trials, N images, V voxels, H numbers that the layer predicts, X numbers of an embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import DecoderWeights
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.linear.readout import Readout
from mindsight.retrieval import CandidatePool
from mindsight.retrieval.confidence import Score
from training.calibration.closed_form import Method

if TYPE_CHECKING:
    from mindsight.decoders.mindeye2 import MindEye2

_BATCH = 64


class Head(Protocol):
    """score, centred : what is compared, see ``Calibration``; the choices of ``centred`` that calibration may try

    structured : the form of an encoding model with structured errors: "whitened" where its predictions are projected
        on candidates, "structured" where a network reads them
    """

    score: Score
    centred: tuple[bool, ...]
    structured: Method

    @property
    def what(self) -> str:
        """In words, for the record."""

    def targets(self, images: CandidatePool) -> NDArray[np.float32]:
        """(N, H) that the ridge layer should predict for each image. Raises ModelMismatch (``pool.query_shape``)."""

    def features(self, predicted_KH: NDArray[np.float32]) -> NDArray[np.float32]:
        """(K, X) that are compared with embeddings."""

    def weights(self, readout: Readout, penalty: float, file: Path) -> DecoderWeights:
        """A decoder that is ready for a bundle; ``file`` (.safetensors) is needed until the bundle is saved.

        penalty : of ridge; NaN for an inverted encoding model
        """


class LinearHead:
    """Nothing above the ridge layer, which predicts embeddings."""

    score: Score = "projection"
    centred: tuple[bool, ...] = (False, True)
    structured: Method = "whitened"
    what = "a linear decoder"

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape

    def targets(self, images: CandidatePool) -> NDArray[np.float32]:
        return np.asarray(images.flat_ND, np.float32)

    def features(self, predicted_KH: NDArray[np.float32]) -> NDArray[np.float32]:
        return predicted_KH

    def weights(self, readout: Readout, penalty: float, file: Path) -> DecoderWeights:
        weights_VH, intercept_H = readout.weights_VH.astype(np.float32), readout.intercept_H.astype(np.float32)
        return LinearDecoder(weights_VH, intercept_H, self._shape, penalty)


class BackboneHead:
    """A MindEye2 that several subjects share.

    A model that ``training.pretraining.mindeye.pretrain`` made has one ridge layer, which reads an image's tokens and
    gives the latent that it was trained on: that is the target. For any other model the tokens are pulled back through
    its affine inference form, see ``pull_back``.
    """

    score: Score = "cosine"
    centred: tuple[bool, ...] = (False,)
    structured: Method = "structured"

    def __init__(self, model: MindEye2) -> None:
        self._model = model
        layout = model.layout
        self._reads_images = layout.voxels == (layout.tokens * layout.dim,)

    @classmethod
    def load(cls, folder: Path) -> BackboneHead:
        """Raises ModelMismatch, see ``load_mindeye2``."""
        from mindsight.decoders.mindeye2 import load_mindeye2
        from mindsight.weights.artefact import read_artefact

        if (folder / "mindeye2.safetensors").is_file():
            return cls(load_mindeye2(read_artefact(folder, "mindeye2").tensors))
        return cls(load_mindeye2(folder))

    @property
    def model(self) -> MindEye2:
        return self._model

    @property
    def what(self) -> str:
        targets = "its own layer for images" if self._reads_images else "its affine form, inverted"
        return f"a shared MindEye2, latents by {targets}"

    def targets(self, images: CandidatePool) -> NDArray[np.float32]:
        import torch

        from training.calibration.pull_back import PullBack
        from training.pretraining.mindeye import latents

        pulled = None if self._reads_images else PullBack.of(self._model)
        found = []
        for chunk in images.chunks():
            tokens_KX = torch.from_numpy(np.array(chunk, np.float32))  # a pool from a folder cannot be written to
            found.append(latents(self._model, tokens_KX[:, None]) if pulled is None else pulled.latents(tokens_KX))
        targets_NH: NDArray[np.float32] = torch.cat(found).numpy()
        return targets_NH

    def features(self, predicted_KH: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            batches = torch.split(torch.from_numpy(predicted_KH), _BATCH)
            retrieval = [self._model.tokens_of(batch).retrieval.flatten(1) for batch in batches]
        features_KX: NDArray[np.float32] = torch.cat(retrieval).numpy()
        return features_KX

    def weights(self, readout: Readout, penalty: float, file: Path) -> DecoderWeights:
        from mindsight.decoders.mindeye2.decoder import MindEye2Weights
        from mindsight.weights.state_dict import write_state_dict

        write_state_dict(file, own_state(self._model, readout.weights_VH, readout.intercept_H))
        return MindEye2Weights(file)


def own_state(model: MindEye2, weights_VH: NDArray[Any], bias_H: NDArray[Any]) -> dict[str, Any]:
    """The state dict of one subject's model in half precision: the shared weights and its own ridge layer."""
    # rotary frequencies are recomputed, and would lose precision as half floats
    import torch

    named = model.state_dict().items()
    shared = {key: value for key, value in named if not key.startswith("ridge.") and "rotary_emb" not in key}
    own = {
        "ridge.linears.0.weight": torch.from_numpy(np.ascontiguousarray(weights_VH.T)),
        "ridge.linears.0.bias": torch.from_numpy(np.ascontiguousarray(bias_H)),
    }
    return {key: value.half().contiguous() for key, value in (shared | own).items()}


def load_head(backbone: Path | None, pool: CandidatePool) -> Head:
    """The shared backbone in this folder, or none.

    Raises ModelMismatch (``pool.query_shape``) for a pool of another encoder than the backbone's, and what loading it
    raises.
    """
    if backbone is None:
        return LinearHead(pool.token_shape)
    from mindsight.errors import ModelMismatch

    head = BackboneHead.load(backbone)
    layout = head.model.layout
    if layout.tokens * layout.dim != pool.flat_ND.shape[1]:
        raise ModelMismatch(
            f"expected a pool of {layout.tokens} tokens of {layout.dim}, as the backbone gives, got"
            f" {pool.token_shape}: build the pool with the encoder that the backbone was trained towards",
            code="pool.query_shape",
        )
    return head
