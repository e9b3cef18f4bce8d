"""How faithful images are, beside how fast they are made: student against teacher, on images that neither learnt from.

Every image starts from the same noise in every row. Knows nothing of training.

Letters: K images, N tokens of D numbers, H and W.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mindsight.accuracy import Accuracy, top_k
from mindsight.encoders.base import Encoder
from mindsight.evaluation.metrics.metric import PIXCORR, SSIM, Metric, Score
from mindsight.evaluation.metrics.pixels import pixcorr, ssim
from mindsight.evaluation.metrics.resize import as_unit_images
from mindsight.evaluation.metrics.similarity import cosine_matrix
from mindsight.generators.sampling.presets import plan
from mindsight.generators.sampling.schedule import N_TIMESTEPS, sigma_at
from mindsight.generators.unclip.sdxl.adapter import to_images
from mindsight.generators.unclip.sdxl.conditioner import draw_noise, draw_uncond
from mindsight.generators.unclip.sdxl.pipeline import FACTOR, Unclip

TOKEN_COSINE = Metric("token_cosine", "token cosine")
_BATCH = 8
_TIMED = 5
_LARGEST_SIGMA = float(sigma_at(N_TIMESTEPS - 1))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shown:
    """What the images should show: pictures of ``encoder``'s size or another, and their tokens."""

    encoder: Encoder
    images_KHW3: NDArray[np.uint8]
    tokens_KND: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """A row: whose weights, and how they are sampled."""

    title: str
    unclip: Unclip
    preset: str
    steps: int

    @property
    def evaluations(self) -> int:
        return plan(self.preset, self.steps).evaluations


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Figures of one sampler, or of the images' own way through the autoencoder, which nothing can be better than.

    scores : against the image that the tokens belong to; retrieval is of that image's tokens among all by the tokens of
        what was made
    likeness : pixel correlation with the teacher's images, None in its own row
    ms : of one image alone, None where nothing is sampled
    """

    title: str
    evaluations: int
    ms: float | None
    scores: tuple[Score, ...]
    retrieval: Accuracy
    likeness: Score | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """rows : the first is the autoencoder's, the second the teacher's; control : the teacher's images against the image
    after the one that each belongs to
    """

    rows: tuple[Row, ...]
    control: Row


def measure(samplers: Sequence[Sampler], shown: Shown) -> Fidelity:
    """The table. samplers : the teacher's own comes first"""
    reference = samplers[0]
    through = _through_autoencoder(reference.unclip, shown.images_KHW3)
    made = [_images(sampler, shown.tokens_KND) for sampler in samplers]
    rows = [_row("the images through the autoencoder", 0, None, through, shown, made[0])]
    for sampler, images in zip(samplers, made, strict=True):
        likeness = None if sampler is reference else made[0]
        ms = _timed(sampler, shown.tokens_KND[:1])
        rows.append(_row(sampler.title, sampler.evaluations, ms, images, shown, likeness))
    others = np.roll(made[0], 1, axis=0)
    control = _row("control: tokens of another image", reference.evaluations, None, others, shown, None)
    return Fidelity(rows=tuple(rows), control=control)


def _row(
    title: str,
    evaluations: int,
    ms: float | None,
    images_KHW3: NDArray[np.uint8],
    shown: Shown,
    teacher_KHW3: NDArray[np.uint8] | None,
) -> Row:
    size = images_KHW3.shape[1]
    made, wanted = as_unit_images(images_KHW3, size), as_unit_images(shown.images_KHW3, size)
    cosine_KK = cosine_matrix(shown.encoder.encode(_resized(images_KHW3, shown.encoder.image_size)), shown.tokens_KND)
    likeness = None if teacher_KHW3 is None else pixcorr(as_unit_images(teacher_KHW3, size), made)
    return Row(
        title=title,
        evaluations=evaluations,
        ms=ms,
        scores=(pixcorr(wanted, made), ssim(wanted, made), Score(TOKEN_COSINE, np.diag(cosine_KK))),
        retrieval=top_k(cosine_KK, np.eye(len(cosine_KK), dtype=np.bool_), 1),
        likeness=likeness,
    )


def _resized(images_KHW3: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """As images are read for a pool."""
    squares = (Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BICUBIC) for image in images_KHW3)
    return np.stack([np.asarray(square, dtype=np.uint8) for square in squares])


def _images(sampler: Sampler, tokens_KND: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(K, H, W, 3); image k starts from the noise of seed k."""
    unclip, made = sampler.unclip, []
    for start in range(0, len(tokens_KND), _BATCH):
        tokens = torch.from_numpy(tokens_KND[start : start + _BATCH])
        noise, uncond = _drawn(unclip, range(start, start + len(tokens)), tokens)
        images = unclip.sample(tokens, sampler.preset, noise=noise, uncond=uncond, steps=sampler.steps)
        made.append(to_images(images))
    return np.concatenate(made)


def _drawn(unclip: Unclip, seeds: Sequence[int], tokens_BND: Tensor) -> tuple[Tensor, Tensor]:
    edge = unclip.size_px // FACTOR
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = (unclip.layout.channels, edge, edge)
    noise = torch.stack([draw_noise(generator, shape, _LARGEST_SIGMA) for generator in generators])
    n_tokens, dim = tokens_BND.shape[1:]
    return noise, torch.stack([draw_uncond(generator, n_tokens, dim) for generator in generators])


@torch.inference_mode()
def _through_autoencoder(unclip: Unclip, images_KHW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    edge, made = unclip.size_px // FACTOR, []
    for start in range(0, len(images_KHW3), _BATCH):
        pixels = torch.from_numpy(images_KHW3[start : start + _BATCH]).permute(0, 3, 1, 2).float().div_(255.0)
        made.append(to_images(unclip.shown(unclip.start_of(pixels, (edge, edge)))))
    return np.concatenate(made)


def _timed(sampler: Sampler, tokens_1ND: NDArray[np.float32]) -> float:
    """Median milliseconds from tokens to pixels on the host, one image at a time."""
    tokens, taken = torch.from_numpy(tokens_1ND), []
    for _ in range(1 + _TIMED):
        started_s = time.perf_counter()
        to_images(sampler.unclip.sample(tokens, sampler.preset, steps=sampler.steps))
        taken.append(1e3 * (time.perf_counter() - started_s))
    return float(np.median(taken[1:]))


def as_json(fidelity: Fidelity) -> dict[str, Any]:
    """Every figure with its n and its 95 % interval."""
    return {"rows": [_described(row) for row in fidelity.rows], "control": _described(fidelity.control)}


def _described(row: Row) -> dict[str, Any]:
    low, high = row.retrieval.interval
    found: dict[str, Any] = {"title": row.title, "evaluations": row.evaluations, "ms": row.ms}
    found |= {score.metric.key: _figures(score) for score in row.scores}
    found["retrieval"] = {
        "value": row.retrieval.value, "interval": [low, high], "n": row.retrieval.n, "chance": row.retrieval.chance
    }  # fmt: skip
    found["likeness"] = None if row.likeness is None else _figures(row.likeness)
    return found


def _figures(score: Score) -> dict[str, Any]:
    return {"value": score.value, "interval": list(_interval(score)), "n": score.n}


def _interval(score: Score) -> tuple[float, float]:
    return score.interval(np.random.default_rng(0))


def table(fidelity: Fidelity) -> str:
    """Markdown: each figure with its 95 % interval in brackets."""
    n, ways = fidelity.control.retrieval.n, len(fidelity.control.scores[0].values_K)
    names = ["", "evaluations", "ms", *(metric.title for metric in (PIXCORR, SSIM, TOKEN_COSINE))]
    lines = [[*names, f"retrieval, 1 of {ways}", "PixCorr with the teacher's"]]
    lines.append(["---"] * len(lines[0]))
    for row in (*fidelity.rows, fidelity.control):
        low, high = row.retrieval.interval
        lines.append(
            [
                row.title,
                str(row.evaluations or ""),
                "" if row.ms is None else f"{row.ms:.0f}",
                *(_cell(score) for score in row.scores),
                f"{row.retrieval.value:.1%} [{low:.1%}, {high:.1%}]",
                "" if row.likeness is None else _cell(row.likeness),
            ]
        )
    head = f"{n} images; chance of retrieval {fidelity.control.retrieval.chance:.1%}; 95 % intervals over images.\n\n"
    return head + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(score: Score) -> str:
    low, high = _interval(score)
    return f"{score.value:.3f} [{low:.3f}, {high:.3f}]"
