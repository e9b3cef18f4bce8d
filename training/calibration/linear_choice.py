"""The linear decoder fitted to trials of several runs, and its accuracy on runs left out.

Knows nothing of volumes or files. Letters: K trials, V voxels, N candidates, M shuffled trials, D numbers of an
embedding.

Two things are chosen on runs left out: how to fit the decoder (ridge regression, or an encoding model inverted), and
whether embeddings are centred on the mean embedding (what the decoder predicts from an average beta) before candidates
are scored. The default, ridge without centring, stays unless another way has less log loss by more than one standard
error over the trials. Scores are projections rather than cosines, so that the short prediction from a noisy beta gets a
low score. ``docs/retrieval.md`` has the figures behind these choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy, top_k
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoders.linear.inversion import invert_encoding
from mindsight.retrieval import Calibration, CandidatePool, cosine_scores, fit_temperature
from mindsight.retrieval.confidence import Score

Method = Literal["ridge", "inversion"]

_SHUFFLES, _MAX_NULL = 20, 5000
# The inversion of an encoding model inverts a D x D matrix.
_MAX_INVERTED = 2048


@dataclass(frozen=True, eq=False)
class RunTrials:
    """One run: (K, V) z-scored betas, and (K,) the index in the pool of the candidate that each trial showed."""

    z_KV: NDArray[np.float32]
    shown_K: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Scores of every trial with every candidate, by a decoder that was not fitted to the trial's run.

    scores_KN : (K, N), trials in the order of the runs
    right_KN : (K, N) the candidate that was shown
    null_MN : (M, N) of the same trials with their voxels shuffled
    score : cosines or projections
    method, centred : how the decoders were fitted, and whether embeddings were centred on the mean embedding
    """

    scores_KN: NDArray[np.float32]
    right_KN: NDArray[np.bool_]
    null_MN: NDArray[np.float32]
    score: Score = "cosine"
    method: Method = "ridge"
    centred: bool = False

    @property
    def calibration(self) -> Calibration:
        fitted = fit_temperature(self.scores_KN, self.right_KN, self.null_MN, self.score)
        return replace(fitted, centred=self.centred)

    @property
    def accuracy(self) -> Accuracy:
        return top_k(self.scores_KN, self.right_KN, 1)

    @property
    def log_loss_K(self) -> NDArray[np.float64]:
        """(K,) negative log probability of what each trial showed, at the temperature that fits them best."""
        fitted = fit_temperature(self.scores_KN, self.right_KN, self.null_MN, self.score, doubt=0.0)
        probabilities_K = fitted.probabilities(self.scores_KN)[self.right_KN]
        return np.asarray(-np.log(np.maximum(probabilities_K, np.finfo(np.float64).tiny)))


def fit_linear(runs: Sequence[RunTrials], pool: CandidatePool, method: Method = "ridge") -> LinearDecoder:
    """From all trials of the runs to the embeddings of what they showed."""
    z_KV = np.concatenate([run.z_KV for run in runs])
    embeddings = pool.embeddings[np.concatenate([run.shown_K for run in runs])]
    if method == "ridge":
        return LinearDecoder.fit(z_KV, embeddings)
    weights_VD, intercept_D = invert_encoding(z_KV, embeddings.reshape(len(embeddings), -1))
    return LinearDecoder(weights_VD, intercept_D, pool.token_shape, float("nan"))


def leave_one_run_out(runs: Sequence[RunTrials], pool: CandidatePool, rng: np.random.Generator) -> HeldOut:
    """Decode each run by ridge regression fitted to the others, with cosines. Needs two or more runs."""
    return _leave_one_run_out(runs, pool, rng, "ridge", "cosine")[0]


def choose_linear(runs: Sequence[RunTrials], pool: CandidatePool, rng: np.random.Generator) -> HeldOut:
    """The best way by the log loss on runs left out; its ``method`` is for ``fit_linear``. Needs two or more runs."""
    methods: list[Method] = ["ridge"]
    if pool.flat_ND.shape[1] <= _MAX_INVERTED:
        methods.append("inversion")
    tried = [held for method in methods for held in _leave_one_run_out(runs, pool, rng, method, "projection")]
    usual = tried[0]
    best = min(tried, key=lambda held: float(held.log_loss_K.mean()))
    gain_K = usual.log_loss_K - best.log_loss_K
    return best if gain_K.mean() > gain_K.std() / np.sqrt(len(gain_K)) else usual


def _leave_one_run_out(
    runs: Sequence[RunTrials], pool: CandidatePool, rng: np.random.Generator, method: Method, score: Score
) -> list[HeldOut]:
    """Without centring, and with embeddings centred on the mean embedding."""
    scores: dict[bool, list[NDArray[np.float32]]] = {False: [], True: []}
    null: dict[bool, list[NDArray[np.float32]]] = {False: [], True: []}
    shown_K = np.concatenate([run.shown_K for run in runs])
    shuffles = max(1, min(_SHUFFLES, _MAX_NULL // len(shown_K)))
    for run in runs:
        decoder = fit_linear([other for other in runs if other is not run], pool, method)
        shuffled = rng.permuted(np.tile(run.z_KV, (shuffles, 1)), axis=1)
        for centred in (False, True):
            scores[centred].append(scores_of(decoder, run.z_KV, pool, score, centred))
            null[centred].append(scores_of(decoder, shuffled, pool, score, centred))
    right_KN = shown_K[:, None] == np.arange(len(pool))
    return [
        HeldOut(np.concatenate(scores[way]), right_KN, np.concatenate(null[way]), score, method, way)
        for way in (False, True)
    ]


def scores_of(
    decoder: LinearDecoder, z_KV: NDArray[np.float32], pool: CandidatePool, score: Score, centred: bool
) -> NDArray[np.float32]:
    """(K, N) of trials with the pool."""
    predicted = decoder.predict(z_KV)
    origin = decoder.origin if centred else None
    cosines_KN = cosine_scores(predicted, pool, origin)
    if score == "cosine":
        return cosines_KN
    lengths_K = np.linalg.norm((predicted - (0.0 if origin is None else origin)).reshape(len(z_KV), -1), axis=1)
    projections: NDArray[np.float32] = cosines_KN * lengths_K[:, None].astype(np.float32)
    return projections
