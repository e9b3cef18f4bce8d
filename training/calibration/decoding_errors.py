"""The errors of decoded features, measured on calibration trials that the decoder was not fitted to.

Letters: K trials, X numbers of the decoded features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mindsight.decoding import TrialDecoder
from mindsight.errors import BadRequest
from mindsight.posterior.errors import DecodingErrors
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.device import on_host
from training.calibration.fits import LabelledBeta, LeftOut, live_betas
from training.calibration.runs import LabelledRun


def guided_by_ranking(
    bundle: Bundle,
    runs: Sequence[LabelledRun],
    left_out: Sequence[LeftOut],
    index_of: Mapping[str, int],
    in_pool_prior: float,
) -> Bundle:
    """The bundle with decoding errors at every stage, whose ranking guides its reconstructions.

    left_out : all of ``runs``, by their numbers
    index_of : label of a trial -> index of its candidate in the pool
    in_pool_prior : see ``Sampling``

    Raises BadRequest (``calibration.tokens``) if images cannot be reconstructed from the decoder's features,
    ModelMismatch (``calibration.few``) for too few images or trials.
    """
    decoders = {run: TrialDecoder(replace(bundle, decoder=held.decoder), clock=time.perf_counter, n_candidates=1)
                for held in left_out for run in held.runs}  # fmt: skip
    of: dict[tuple[Stage, int, int], LabelledBeta] = {}
    for trial in live_betas(bundle, runs):
        of[trial.beta.stage, trial.beta.run, trial.beta.trial] = trial
    finals = [trial for (stage, _, _), trial in of.items() if stage == "final"]
    decoded: dict[str, NDArray[np.float32]] = {}
    for stage in STAGES:
        rows = [
            _decoded(decoders[final.beta.run], of.get((stage, final.beta.run, final.beta.trial))) for final in finals
        ]
        there = [row for row in rows if row is not None]
        if there:
            missing_X = np.full_like(there[0], np.nan)
            decoded[stage] = np.stack([missing_X if row is None else row for row in rows])
    shown_K = np.array([index_of[final.label] for final in finals])
    errors = DecodingErrors.learn(decoded, bundle.pool.embeddings[shown_K], shown_K)
    return replace(bundle, errors=errors, sampling=replace(bundle.sampling, in_pool_prior=in_pool_prior))


def _decoded(decoder: TrialDecoder, trial: LabelledBeta | None) -> NDArray[np.float32] | None:
    """(X,) what a reconstruction is conditioned on; None without a trial."""
    if trial is None:
        return None
    condition = decoder.retrieve(trial.beta.beta_V, trial.beta.mean_V, trial.beta.std_V).condition
    if not condition:
        raise BadRequest(
            "expected a decoder of image tokens to guide reconstructions, got one of labels or pooled embeddings: give"
            " --pool with token embeddings, or leave --in-pool-prior out",
            code="calibration.tokens",
        )
    return on_host(next(iter(condition.values()))).ravel()
