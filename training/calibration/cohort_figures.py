"""What an hour of calibration is worth on a simulated cohort, whose noise ceiling and best decoder are known.

A model is pretrained on several participants and calibrated on a new one, with growing numbers of trials; the same
model is trained from scratch on the new participant alone. All are tested on single trials of images that nobody was
fitted to, each ranked among candidates that come in families of look-alikes. Knows nothing of plots or files.

Letters: K trials, N candidates, V voxels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mindsight.accuracy import Accuracy
from mindsight.decoders.mindeye2 import MindEye2
from mindsight.retrieval import CandidatePool, cosine_scores
from mindsight.simulator.cohort import CohortSubject, factors, look_alikes, tokens_of
from training.calibration.closed_form import folds_by_image
from training.calibration.fine_tuning import fine_tune
from training.calibration.fitted import Fitted, fit_trials
from training.calibration.gradient import (
    GradientSteps,
    Look,
    Material,
    Recipe,
    finite,
    random_model,
    retrieval_features,
    warm_model,
)
from training.calibration.heads import BackboneHead, Head, LinearHead
from training.calibration.left_out import Images, is_better, trial_losses
from training.pretraining.mindeye import Config, Seen, pretrain
from training.pretraining.mindeye import Recipe as Pretraining


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """families, alike : candidates are ``families`` times ``alike`` images; showings : test trials of each
    repeats : share of calibration trials that show an image for the second time
    """

    participants: int = 6
    trials_each: int = 2250
    voxels: int = 600
    hidden: int = 64
    families: int = 100
    alike: int = 3
    showings: int = 4
    repeats: float = 0.1
    calibration: tuple[int, ...] = (75, 150, 375, 750)
    scratch: tuple[int, ...] = (75, 375, 750, 3000)
    pretraining: Pretraining = field(
        default_factory=lambda: Pretraining(steps=2500, batch=128, prior_batch=0, learning_rate=3e-3)
    )
    fine_tuning: Recipe = field(default_factory=lambda: Recipe(steps=160, batch=128, learning_rate=3e-4))
    from_scratch: Recipe = field(
        default_factory=lambda: Recipe(steps=700, batch=128, learning_rate=1e-3, look_every=50, patience=5)
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """decoder : in words; trials : of the new participant that it was fitted to, 0 for the best there is"""

    decoder: str
    trials: int
    seed: int
    accuracy: Accuracy
    cpu_s: float


@dataclass(frozen=True, eq=False)
class Trials:
    """z-scored betas, and the index of the image that each trial showed."""

    z_KV: NDArray[np.float32]
    shown_K: NDArray[np.intp]


class NewSubject:
    """One participant who was not in pretraining: as many calibration trials as are asked for, always the first ones.

    pool : the candidates; best : accuracy of the best decoder there is, on the test trials
    """

    def __init__(self, plan: Plan, seed: int) -> None:
        rng = np.random.default_rng([seed, 99])
        subject = CohortSubject(2000 + seed, plan.voxels)
        candidates_NF = look_alikes(rng, plan.families, plan.alike)
        self.pool = named(tokens_of(candidates_NF))
        self.right_K = np.tile(np.arange(len(candidates_NF)), plan.showings)
        self._test_KV = subject.measure(candidates_NF[self.right_K], rng)
        self.best = self._accuracy(subject.log_likelihood(self._test_KV, candidates_NF))
        self.signal_share = float(np.median(subject.signal_share_V[subject.signal_share_V > 0]))
        most = max((*plan.calibration, *plan.scratch))
        first_NF, self.shown_K = factors(rng, most), np.arange(most)
        for k in np.flatnonzero(rng.random(most) < plan.repeats):  # shows again what one of the trials before it showed
            self.shown_K[k] = self.shown_K[int(rng.integers(0, k + 1))]
        self.stimuli = named(tokens_of(first_NF))
        self._betas_KV = subject.measure(first_NF[self.shown_K], rng)

    def trials(self, n: int) -> Trials:
        """The first n, z-scored by themselves."""
        return Trials(self._z(self._betas_KV[:n], n), self.shown_K[:n])

    def images(self, head: Head, n: int) -> Images:
        """What the first n trials may have shown."""
        pool = CandidatePool(self.stimuli.ids[:n], self.stimuli.embeddings[:n])
        return Images(pool, head.targets(pool))

    def test_KV(self, n: int) -> NDArray[np.float32]:
        """Test betas, z-scored by the first n trials."""
        return self._z(self._test_KV, n)

    def accuracy(self, fitted: Fitted, head: Head, n: int) -> Accuracy:
        return self._accuracy(fitted.scores(self.test_KV(n), head, self.pool))

    def accuracy_of_model(self, model: MindEye2, keep_V: NDArray[np.bool_], n: int) -> Accuracy:
        return self._accuracy(cosine_scores(retrieval_features(model, self.test_KV(n)[:, keep_V]), self.pool))

    def _z(self, betas_KV: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        by_KV = self._betas_KV[:n]
        return np.asarray((betas_KV - by_KV.mean(axis=0)) / by_KV.std(axis=0), np.float32)

    def _accuracy(self, scores_KN: NDArray[np.float32] | NDArray[np.float64]) -> Accuracy:
        return Accuracy.of((scores_KN.argmax(axis=1) == self.right_K).tolist(), 1.0 / len(self.pool))


def named(tokens_NTD: NDArray[np.float32]) -> CandidatePool:
    return CandidatePool(tuple(f"image-{i:05d}" for i in range(len(tokens_NTD))), tokens_NTD)


def pretrained(plan: Plan, seed: int) -> MindEye2:
    """On the cohort's other participants, each with images of their own."""
    participants = []
    for number in range(plan.participants):
        rng = np.random.default_rng([seed, number])
        seen_KF = factors(rng, plan.trials_each)
        betas_KV = CohortSubject(1000 + 10 * seed + number, plan.voxels).measure(seen_KF, rng)
        z_KV = (betas_KV - betas_KV.mean(axis=0)) / betas_KV.std(axis=0)
        participants.append(Seen(torch.from_numpy(z_KV), torch.from_numpy(tokens_of(seen_KF))))
    sessions = tuple(n for n in (150, 375, 750) if 2 * n <= plan.trials_each)
    config = Config(hidden=plan.hidden, prior=None, session_trials=sessions, pretraining=plan.pretraining)
    return pretrain(participants, config, seed)


def figures(plan: Plan, seed: int, model: MindEye2) -> Iterator[Figure]:
    """All of one cohort, as they are found. model : see ``pretrained``

    "as calibrated" is the one of both that a visit with a backbone ranks by, see ``ranked``
    """
    new, head = NewSubject(plan, seed), BackboneHead(model)
    yield Figure("best there is", 0, seed, new.best, 0.0)
    linear = LinearHead(new.pool.token_shape)
    for n in plan.calibration:
        trials, found = new.trials(n), dict[str, tuple[Fitted, Figure]]()
        for name, each in (("closed form", head), ("linear", linear)):
            started = time.process_time()
            fitted = fit_trials(trials.z_KV, trials.shown_K, each, new.images(each, n))
            found[name] = fitted, Figure(name, n, seed, new.accuracy(fitted, each, n), time.process_time() - started)
            yield found[name][1]
        (under, _), (own, _) = found["closed form"], found["linear"]
        ranks = found["linear" if is_better(own.left_out, under.left_out) else "closed form"][1]
        yield replace(ranks, decoder="as calibrated", cpu_s=sum(figure.cpu_s for _, figure in found.values()))
        yield fine_tuned(plan, new, head, under, n, seed)
        yield shuffled(new, head, n, seed)
    for n in plan.scratch:
        started = time.process_time()
        *_, last = by_gradient(
            new, random_model(head.model, plan.voxels, seed), n, replace(plan.from_scratch, seed=seed)
        )
        yield Figure("from scratch", n, seed, last[1], time.process_time() - started)


def fine_tuned(plan: Plan, new: NewSubject, head: BackboneHead, fitted: Fitted, n: int, seed: int) -> Figure:
    """Under the backbone: fine-tuned if that is better on images left out, else the closed form."""
    started, trials = time.process_time(), new.trials(n)
    recipe = replace(plan.fine_tuning, seed=seed)
    z_KV = trials.z_KV[:, fitted.keep_V]
    found = fine_tune(head, new.images(head, n), z_KV, trials.shown_K, fitted.way, recipe)
    used = found is not None and found.model is not None
    if found is None or found.model is None:
        accuracy = new.accuracy(fitted, head, n)
    else:
        accuracy = new.accuracy_of_model(found.model, fitted.keep_V, n)
    name = "after fine-tuning" if used else "after fine-tuning (closed form kept)"
    return Figure(name, n, seed, accuracy, time.process_time() - started)


def shuffled(new: NewSubject, head: BackboneHead, n: int, seed: int) -> Figure:
    """The control: betas of other trials."""
    started, trials = time.process_time(), new.trials(n)
    order_K = np.random.default_rng([seed, n]).permutation(n)
    fitted = fit_trials(trials.z_KV[order_K], trials.shown_K, head, new.images(head, n))
    return Figure("closed form, shuffled pairs", n, seed, new.accuracy(fitted, head, n), time.process_time() - started)


def by_gradient(new: NewSubject, model: MindEye2, n: int, recipe: Recipe) -> Iterator[tuple[Look, Accuracy, float]]:
    """A model trained on n trials alone; stopped by a fifth of the images, whose best look is the last that is given.

    Each look with the accuracy on the test trials, and the CPU seconds of training and looking so far.
    """
    trials, everywhere = new.trials(n), np.ones(new.test_KV(n).shape[1], np.bool_)
    stop = folds_by_image(trials.shown_K, 5) == 1
    pool = new.images(LinearHead(new.pool.token_shape), n).pool
    shown_K = trials.shown_K[~stop]
    material = Material(trials.z_KV[~stop], shown_K, np.asarray(pool.embeddings)[shown_K])

    def judge(model: MindEye2) -> float:
        scores_KN = cosine_scores(retrieval_features(model, trials.z_KV[stop]), pool)
        return finite(float(trial_losses(scores_KN, trials.shown_K[stop]).mean()))

    spent_s, started = 0.0, time.process_time()
    steps = GradientSteps(model, material, recipe, judge)
    for look in steps:
        spent_s += time.process_time() - started
        yield look, new.accuracy_of_model(model, everywhere, n), spent_s
        started = time.process_time()
    yield steps.best, new.accuracy_of_model(model, everywhere, n), spent_s


def race(plan: Plan, seed: int, n: int, model: MindEye2) -> Iterator[tuple[str, float, Accuracy]]:
    """Accuracy against CPU seconds: the closed form, and gradient steps from a random layer under the same backbone."""
    new, head, started = NewSubject(plan, seed), BackboneHead(model), time.process_time()
    trials = new.trials(n)
    fitted = fit_trials(trials.z_KV, trials.shown_K, head, new.images(head, n))
    yield "closed form", time.process_time() - started, new.accuracy(fitted, head, n)
    layer = random_model(model, plan.voxels, seed).ridge.linears[0]
    start = warm_model(model, layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy())  # type: ignore[operator]
    for _, accuracy, spent_s in by_gradient(new, start, n, replace(plan.from_scratch, seed=seed)):
        yield "random layer, gradient steps", spent_s, accuracy
