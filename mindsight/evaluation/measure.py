"""A decoder's outputs measured by every published metric, with controls.

Knows nothing of files or decoders. Letters: K images, S samples (reconstructions of one image), H and W pixels, N
tokens, D channels, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest
from mindsight.evaluation.controls import exchanged
from mindsight.evaluation.live import live_leaks
from mindsight.evaluation.metrics.brain import BrainEncoder, brain_scores
from mindsight.evaluation.metrics.captions import rouge_1, rouge_l
from mindsight.evaluation.metrics.identification import DRAWS, POOL, RetrievalScore, TwoWayRetrieval, retrieval_of
from mindsight.evaluation.metrics.metric import PIXCORR, SSIM, Metric, Score
from mindsight.evaluation.metrics.perceptual import FeatureSource, of_features
from mindsight.evaluation.metrics.pixels import pixcorr, ssim
from mindsight.evaluation.metrics.resize import as_unit_images
from mindsight.evaluation.metrics.similarity import cosine_matrix
from mindsight.evaluation.networks.catalog import NETWORKS, NetworkSpec
from mindsight.evaluation.records import Evaluation, LiveFigure, Outputs, Row, Truth
from mindsight.shares import Report, Shares, unreported, within

EXCHANGED = "pairs exchanged"
_IMAGES = 0.8  # share of the time that comparing images takes, as for the demo's session; the rest is intervals


def measure(
    truth: Truth,
    outputs: Outputs,
    controls: Sequence[Outputs] = (),
    networks: Sequence[FeatureSource] = (),
    *,
    seed: int = 0,
    encoder: BrainEncoder | None = None,
    allow_best_of_n: bool = False,
    live: Sequence[LiveFigure] = (),
    report: Report = unreported,
) -> Evaluation:
    """Every metric that the given arrays allow, for the outputs and for each control.

    The control ``pairs exchanged`` compares every output with another image; it is always measured.

    Raises BadRequest: ``answers.count`` (numbers of outputs and images differ), ``answers.best_of_n`` (reconstructions
    were selected among several, and ``allow_best_of_n`` is not set).
    """
    measured = [outputs, *controls]
    for given in measured:
        _check(truth, given, allow_best_of_n)
    order_K = exchanged(np.zeros(len(truth.images_KHWC)), np.random.default_rng([seed, 0]))
    table: list[dict[str, Score]] = [{} for _ in range(len(measured) + 1)]  # the last are the exchanged pairs
    captions: list[dict[str, Score]] = [{} for _ in table]
    _caption_scores(truth, measured, order_K, captions)  # first: it is quick, and raises if captions do not fit
    _image_scores(truth, measured, networks, order_K, table, within(report, 0.0, _IMAGES))
    report("ranking both ways", _IMAGES)
    pool = min(POOL, len(truth.images_KHWC))
    _retrieval_scores(truth, measured, order_K, pool, seed, table)
    _brain_scores(truth, measured, encoder, table)
    for scores, of_captions in zip(table, captions, strict=True):
        scores.update(of_captions)

    titles = [_title(given) for given in measured] + [EXCHANGED]
    rows = []
    for i, (title, scores) in enumerate(zip(titles, table, strict=True)):
        report(f"intervals of {title}", _IMAGES + (1.0 - _IMAGES) * i / len(titles))
        rng = np.random.default_rng([seed, 2, i])
        intervals = {key: score.interval(rng, truth.clusters_K) for key, score in scores.items()}
        rows.append(Row(title, i > 0, scores, intervals))
    return Evaluation(
        image_set=truth.image_set,
        n_images=len(truth.images_KHWC),
        rows=rows,
        not_measured=_missing(truth, networks, rows[0].scores),
        notes=_notes(truth, outputs, rows[0].scores, pool),
        leaks=[*_leaks(rows, truth.clusters_K, seed), *live_leaks(live)],
        pool=pool,
        seed=seed,
        live=tuple(live),
    )


def _check(truth: Truth, outputs: Outputs, allow_best_of_n: bool) -> None:
    n = len(truth.images_KHWC)
    for given in (outputs.recons_KSHWC, outputs.tokens_KND, outputs.predicted_KV, outputs.captions_K):
        if given is not None and len(given) != n:
            raise BadRequest(f"expected {n} outputs of {outputs.name}, got {len(given)}", code="answers.count")
    if outputs.selection != "none" and not allow_best_of_n:
        raise BadRequest(
            f"expected every reconstruction, got {outputs.name} with the best of several selected"
            f" ({outputs.selection}), which raises every metric. Give all samples, or add --allow-best-of-n to have"
            " the row marked",
            code="answers.best_of_n",
        )


def _title(outputs: Outputs) -> str:
    marks = {"none": "", "by_prediction": " [best of n, by prediction]", "by_truth": " [best of n, BY THE TRUTH]"}
    return outputs.name + marks[outputs.selection]


def _image_scores(
    truth: Truth,
    measured: Sequence[Outputs],
    networks: Sequence[FeatureSource],
    order_K: NDArray[np.int64],
    table: list[dict[str, Score]],
    report: Report,
) -> None:
    images = as_unit_images(truth.images_KHWC)
    n_sets = sum(0 if given.recons_KSHWC is None else given.recons_KSHWC.shape[1] for given in measured)
    shares = Shares(report, len(networks) + n_sets * (len(networks) + 1))

    def features_of(what: str, pictures: NDArray[np.float32]) -> list[dict[str, NDArray[np.float32]]]:
        found = []
        for network in networks:
            shares.add(f"{what}: {network.spec.key}", 0)
            found.append(network.features(pictures))
            shares.add(f"{what}: {network.spec.key}", 1)
        return found

    shown = features_of("images shown", images)
    for i, given in enumerate(measured):
        if given.recons_KSHWC is None:
            continue
        samples: list[dict[str, Score]] = []
        mixed: list[dict[str, Score]] = []
        for sample in range(given.recons_KSHWC.shape[1]):
            recons = as_unit_images(given.recons_KSHWC[:, sample])
            features = features_of(given.name, recons)
            shares.add(f"{given.name}: pixels", 0)
            samples.append(_of_pairs(images, recons, networks, shown, features))
            shares.add(f"{given.name}: pixels", 1)
            if i == 0:
                moved = [{layer: values[order_K] for layer, values in held.items()} for held in features]
                mixed.append(_of_pairs(images, recons[order_K], networks, shown, moved))
        table[i].update(_mean(samples))
        if i == 0:
            table[-1].update(_mean(mixed))


def _of_pairs(
    images: NDArray[np.float32],
    recons: NDArray[np.float32],
    networks: Sequence[FeatureSource],
    shown: Sequence[dict[str, NDArray[np.float32]]],
    features: Sequence[dict[str, NDArray[np.float32]]],
) -> dict[str, Score]:
    scores = {PIXCORR.key: pixcorr(images, recons), SSIM.key: ssim(images, recons)}
    for network, of_images, of_recons in zip(networks, shown, features, strict=True):
        for layer, metric in network.spec.metrics.items():
            scores[metric.key] = of_features(metric, of_images[layer], of_recons[layer])
    return scores


def _mean(samples: list[dict[str, Score]]) -> dict[str, Score]:
    """The mean over the samples of each image, so that S samples count as one observation."""
    return {
        key: replace(score, values_K=np.mean([sample[key].values_K for sample in samples], axis=0))
        for key, score in samples[0].items()
    }


def _retrieval_scores(
    truth: Truth,
    measured: Sequence[Outputs],
    order_K: NDArray[np.int64],
    pool: int,
    seed: int,
    table: list[dict[str, Score]],
) -> None:
    if truth.tokens_KND is None:
        return
    for i, given in enumerate(measured):
        if given.tokens_KND is None:
            continue
        cosines_KK = cosine_matrix(given.tokens_KND, truth.tokens_KND)
        table[i].update(_both_ways(retrieval_of(cosines_KK, np.random.default_rng([seed, 1]), pool, DRAWS)))
        if i == 0:
            moved_KK = cosines_KK[order_K]
            table[-1].update(_both_ways(retrieval_of(moved_KK, np.random.default_rng([seed, 1]), pool, DRAWS)))


def _both_ways(found: TwoWayRetrieval) -> dict[str, Score]:
    return {score.metric.key: score for score in (found.brains_ranked, found.images_ranked)}


def _brain_scores(
    truth: Truth, measured: Sequence[Outputs], encoder: BrainEncoder | None, table: list[dict[str, Score]]
) -> None:
    if truth.betas_KV is None:
        return
    for i, given in enumerate(measured):
        predicted_KV = given.predicted_KV
        if predicted_KV is None and encoder is not None and given.recons_KSHWC is not None:
            predicted_KV = encoder(as_unit_images(given.recons_KSHWC[:, 0]))
        if predicted_KV is not None:
            regions = brain_scores(predicted_KV, truth.betas_KV, truth.masks)
            table[i].update({score.metric.key: score for score in regions.values()})


def _caption_scores(
    truth: Truth, measured: Sequence[Outputs], order_K: NDArray[np.int64], table: list[dict[str, Score]]
) -> None:
    if truth.captions_K is None:
        return
    for i, given in enumerate(measured):
        if given.captions_K is None:
            continue
        for rouge in (rouge_1, rouge_l):
            score = rouge(truth.captions_K, given.captions_K)
            table[i][score.metric.key] = score
            if i == 0:
                moved = rouge(truth.captions_K, [given.captions_K[i] for i in order_K])
                table[-1][score.metric.key] = moved


def _missing(truth: Truth, networks: Sequence[FeatureSource], scores: Mapping[str, Score]) -> dict[str, str]:
    missing = {}
    loaded = {network.spec.key for network in networks}
    for metric, network in _needs():
        if metric.key not in scores:
            no_weights = network is not None and network.key not in loaded
            missing[metric.title] = (
                f"no weights: {' or '.join(network.files)}" if network and no_weights else "no reconstructions given"
            )
    if "images_ranked" not in scores:
        missing["retrieval, both ways"] = "needs the tokens of the outputs and of the images"
    if truth.betas_KV is None or not any(key.startswith("brain_") for key in scores):
        missing["brain correlation"] = "needs measured betas, regions, and an encoder or the activity it predicts"
    return missing


def _needs() -> list[tuple[Metric, NetworkSpec | None]]:
    by_network: list[tuple[Metric, NetworkSpec | None]] = [
        (metric, network) for network in NETWORKS for metric in network.metrics.values()
    ]
    return [(PIXCORR, None), (SSIM, None), *by_network]


def _notes(truth: Truth, outputs: Outputs, scores: Mapping[str, Score], pool: int) -> list[str]:
    notes = []
    for score in scores.values():
        if isinstance(score, RetrievalScore):
            low, high = score.draws_interval
            notes.append(
                f"Retrieval, {score.ranked} ranked (compare with the published column {score.published_column}): "
                f"{len(score.draws_R)} draws of {score.pool}; {low:.1%} to {high:.1%} over the draws, as published; "
                "the interval of the table is over images."
            )
    if outputs.selection != "none":
        notes.append("Reconstructions were selected among several: do not compare these figures with published ones.")
    if outputs.recons_KSHWC is not None and outputs.recons_KSHWC.shape[1] > 1:
        notes.append(f"Each figure is the mean over {outputs.recons_KSHWC.shape[1]} samples of every image.")
    if truth.image_set.n is None:
        notes.append("These images are not a published test set: published figures are not comparable with these.")
    if pool < POOL and truth.tokens_KND is not None:
        notes.append(f"Retrieval is {pool}-way (chance {1 / pool:.1%}): do not compare it with 300-way figures.")
    return notes


def _leaks(rows: Sequence[Row], clusters_K: NDArray[np.int64], seed: int) -> list[str]:
    """Controls above chance, at a level that gives at most one false alarm in 40 evaluations."""
    checks = [(row, score) for row in rows if row.control for score in row.scores.values() if score.metric.chance]
    found = []
    for i, (row, score) in enumerate(checks):
        rng = np.random.default_rng([seed, 3, i])
        low, _ = score.interval(rng, clusters_K, level=1.0 - 0.05 / len(checks))
        if score.metric.chance is not None and low > score.metric.chance:
            found.append(
                f"Control {row.title} is above chance in {score.metric.title}: {score.value:.1%} where chance is "
                f"{score.metric.chance:.1%}. The results contain information that is not from the brain's response."
            )
    return found
