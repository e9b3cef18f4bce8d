"""Fine-tuning at the end of a visit: the decoder, and what may be claimed of it.

Knows nothing of bundles. Letters: K trials, V voxels, B betas, N images.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import DecoderWeights
from mindsight.decoders.mindeye2 import MindEye2
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.retrieval import CandidatePool, cosine_scores
from mindsight.weights.state_dict import write_state_dict
from training.calibration.fine_tuning import fine_tune
from training.calibration.fitted import Reader
from training.calibration.gradient import Look, Recipe, retrieval_features
from training.calibration.heads import BackboneHead
from training.calibration.left_out import Gain, trial_losses
from training.calibration.ranked import Ranked
from training.calibration.so_far import Claims, SoFar


def fine_tuned_claims(
    start: Ranked,
    present: Ranked,
    so_far: SoFar,
    recipe: Recipe,
    scratch: Path,
    report: Callable[[Look, int | None], bool],
) -> tuple[Claims, DecoderWeights, Gain] | None:
    """None if steps made the decoder no better, or ``report`` gave False.

    start : the closed form under the backbone
    present : what ranks now, which is to be beaten

    What is claimed is of the fifth of the images that compared it with the closed form, by the model that was trained
    on three fifths; the decoder itself has seen all images.
    """
    head, images, fitted = start.kind.head, start.kind.images, start.fitted
    assert isinstance(head, BackboneHead)
    z_KV, shown_K, keep_V = so_far.z_KV, so_far.shown_K, fitted.keep_V

    def of_rival(own: NDArray[np.intp], judge: NDArray[np.intp]) -> NDArray[np.float64]:
        """Log loss of what ranks now, fitted to the same trials, or to those of them that it knew."""
        rival = present.fitted
        readout = rival.trials.fit(rival.way.method, rival.way.penalty, own[own < rival.trials.n])
        reader = Reader(rival.keep_V, readout, rival.way)
        return trial_losses(reader.scores(z_KV[judge], present.kind.head, images.pool), shown_K[judge])

    rival = None if present.under is None else of_rival
    found = fine_tune(head, images, z_KV[:, keep_V], shown_K, fitted.way, recipe, scratch, report, rival)
    if found is None or found.model is None:
        return None
    file = scratch / "decoder-fine-tuned.safetensors"
    state = found.model.state_dict()
    write_state_dict(file, {name: each.half().contiguous() for name, each in state.items() if "rotary_emb" not in name})
    fold_K = np.full(len(shown_K), -1)
    fold_K[found.judged_K] = 0
    scorer = partial(_scores, model=found.trained, keep_V=keep_V, pool=images.pool)
    null_MN = scorer(so_far.shuffled_MV(keep_V))
    held_out = "a fifth of the images, by a model that was trained on three others"
    claims = Claims(found.left_out, shown_K[found.judged_K], fold_K, {0: scorer}, null_MN, held_out)
    return claims, MindEye2Weights(file), found.gain


def _scores(
    z_BV: NDArray[np.float32], model: MindEye2, keep_V: NDArray[np.bool_], pool: CandidatePool
) -> NDArray[np.float32]:
    return cosine_scores(retrieval_features(model, z_BV[:, keep_V]), pool)
