"""How well reconstructions fit other trials' tokens: what a reconstruction's fit is compared with in a session.

Trials that the decoder was not fitted to are decoded and reconstructed at every stage as a session does it. The tokens
of each are compared with the reconstructions of all others that showed another image. Their cosines are the
distribution of a reconstruction that has nothing to do with the tokens.

Letters: K trials, N tokens of D channels, H and W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mindsight.decoders.base import DecoderWeights
from mindsight.decoding import TrialDecoder
from mindsight.generators.base import Generator, SampleOptions
from mindsight.ingest import IngestSession
from mindsight.ingest.outputs import TrialBeta
from mindsight.quantiles import quantiles_of
from mindsight.reconstruction_fit import FitMeter, directions
from mindsight.stages import STAGES, Stage
from mindsight.subjects.bundle.fit import FitCalibration, MismatchedFit
from mindsight.subjects.bundle.folder import Bundle
from training.calibration.runs import LabelledRun, ingest_run

N_TRIALS = 100


@dataclass(frozen=True, eq=False)
class Reconstructor:
    """What reconstructions are made and measured with.

    n : trials that are reconstructed, at each stage
    options : as the bundle will sample them
    """

    generator: Generator
    meter: FitMeter
    n: int = N_TRIALS
    options: SampleOptions = field(default_factory=SampleOptions)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Runs, and the decoder that was fitted without them."""

    runs: Sequence[int]
    decoder: DecoderWeights


@dataclass(frozen=True, eq=False)
class LabelledBeta:
    """label : of the image that the trial showed"""

    beta: TrialBeta
    label: str


@dataclass(frozen=True, eq=False)
class Reconstructions:
    """K trials at one stage.

    trials : run and number of each
    decoded_KD, encoded_KD : directions of the tokens that each was made from, and of its own
    """

    labels: tuple[str, ...]
    trials: tuple[tuple[int, int], ...]
    pixels_KHW3: NDArray[np.uint8]
    decoded_KD: NDArray[np.float32]
    encoded_KD: NDArray[np.float32]

    @property
    def cosines_KK(self) -> NDArray[np.float32]:
        """Of the tokens of each trial with the reconstruction of each."""
        cosines_KK: NDArray[np.float32] = self.decoded_KD @ self.encoded_KD.T
        return cosines_KK

    @property
    def mismatched_KK(self) -> NDArray[np.bool_]:
        """Pairs of trials that showed different images."""
        labels_K = np.array(self.labels)
        return np.asarray(labels_K[:, None] != labels_K[None])


def live_betas(bundle: Bundle, runs: Sequence[LabelledRun]) -> list[LabelledBeta]:
    """The betas of all labelled trials at all stages, as a session with this bundle estimates and z-scores them."""
    session = IngestSession(
        bundle.options, bundle.space, bundle.statistics, baseline=bundle.baseline, clock=time.perf_counter
    )
    return [
        LabelledBeta(beta, run.trials.labels[beta.trial])
        for run in runs
        for beta in ingest_run(session, run).betas
        if beta.trial in run.trials.labels
    ]


def reconstruct(
    decoder: TrialDecoder, meter: FitMeter, trials: Sequence[LabelledBeta], seed: int = 0
) -> Reconstructions | None:
    """Every trial, each with a seed of its own; None of no trials."""
    made = [
        decoder.reconstruct(
            decoder.retrieve(trial.beta.beta_V, trial.beta.mean_V, trial.beta.std_V), seed + number, trial.beta.stage
        )
        for number, trial in enumerate(trials)
    ]
    if not made:
        return None
    return Reconstructions(
        tuple(trial.label for trial in trials),
        tuple((trial.beta.run, trial.beta.trial) for trial in trials),
        np.stack([each.pixels for each in made]),
        np.concatenate([directions(meter.decoded(each.features), decoder.origin) for each in made]),
        np.concatenate([directions(meter.encoded(each.pixels), decoder.origin) for each in made]),
    )


def calibrate_fit(
    bundle: Bundle, runs: Sequence[LabelledRun], left_out: Sequence[LeftOut], reconstructor: Reconstructor
) -> FitCalibration | None:
    """None if the decoder gives no tokens that the generator draws, or fewer than two images were shown.

    The arguments are those of ``reconstruct_left_out``.
    """
    return fit_of(reconstruct_left_out(bundle, runs, left_out, reconstructor), reconstructor.meter)


def reconstruct_left_out(
    bundle: Bundle, runs: Sequence[LabelledRun], left_out: Sequence[LeftOut], reconstructor: Reconstructor
) -> dict[Stage, Reconstructions]:
    """Trials of all runs at each stage, evenly spaced; empty if the decoder gives no tokens that the generator draws.

    bundle : as it will be saved, but for its fit and its sampler
    left_out : all of ``runs``, by their numbers
    """
    decoders: dict[int, TrialDecoder] = {}
    for held in left_out:
        sampling = replace(bundle.sampling, generator=reconstructor.options)
        own = replace(bundle, decoder=held.decoder, sampling=sampling)
        decoder = TrialDecoder(own, clock=time.perf_counter, generator=reconstructor.generator)
        if not decoder.draws:
            return {}
        decoders |= dict.fromkeys(held.runs, decoder)
    betas, found = live_betas(bundle, runs), dict[Stage, Reconstructions]()
    for stage in STAGES:
        chosen = _evenly([trial for trial in betas if trial.beta.stage == stage], reconstructor.n)
        of_run = {run: [trial for trial in chosen if trial.beta.run == run] for run in decoders}
        seeds = {run: reconstructor.n * run for run in decoders}
        made = together([reconstruct(decoders[run], reconstructor.meter, of_run[run], seeds[run]) for run in decoders])
        if made is not None:
            found[stage] = made
    return found


def fit_of(made: Mapping[Stage, Reconstructions], meter: FitMeter) -> FitCalibration | None:
    """Of the stages at which two images or more were shown; None without any."""
    stages = {stage: mismatched_fit(one) for stage, one in made.items() if one.mismatched_KK.any()}
    if not stages:
        return None
    return FitCalibration(encoder=meter.encoder_digest, generator=meter.generator_digest, stages=stages)


def mismatched_fit(made: Reconstructions) -> MismatchedFit:
    """Of all pairs that showed different images."""
    return MismatchedFit(quantiles=quantiles_of(made.cosines_KK[made.mismatched_KK]), n=len(made.labels))


def together(parts: Sequence[Reconstructions | None]) -> Reconstructions | None:
    """Those of all parts; None of none."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return Reconstructions(
        tuple(label for part in found for label in part.labels),
        tuple(trial for part in found for trial in part.trials),
        np.concatenate([part.pixels_KHW3 for part in found]),
        np.concatenate([part.decoded_KD for part in found]),
        np.concatenate([part.encoded_KD for part in found]),
    )


def _evenly(trials: Sequence[LabelledBeta], n: int) -> list[LabelledBeta]:
    """n of the trials, or all of fewer, evenly spaced."""
    return [trials[int(i)] for i in np.unique(np.linspace(0, len(trials) - 1, min(n, len(trials))).round())]
