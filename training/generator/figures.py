"""Evaluate an encoder and a generator on new scenes: ``python -m training.generator.figures --models FOLDER``.

Writes ``figures.json`` into the folder and, with ``--sheet``, an image of scenes and their reconstructions. Knows
nothing of how the models were trained.

Axes: B scenes, N tokens, D channels of a token, H and W pixels, P values of an image.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mindsight.accuracy import top_k
from mindsight.encoders.demo import DemoEncoder
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.simulator.scenes import random_scenes, render_batch

FRESH_SEED = 2_000_003  # neither training nor its held-out scenes start here
N_SCENES = 200
N_WAYS = 100
TOKEN_NOISE = (0.1, 0.3, 0.5, 1.0)

Images = NDArray[np.uint8]


def psnr_db(drawn_BHW3: NDArray[Any], shown_BHW3: NDArray[Any], peak: float = 255.0) -> float:
    """Mean over images of the peak signal-to-noise ratio; ``peak`` is the range of their values."""
    mse_B = np.square(drawn_BHW3.astype(np.float64) - shown_BHW3).mean((1, 2, 3))
    return float(np.mean(10.0 * np.log10(peak**2 / mse_B)))


def correlations(left_BHW3: Images, right_BHW3: Images) -> NDArray[np.float64]:
    """Pearson correlation of every left with every right image."""
    left_BP, right_BP = (_standardised(images) for images in (left_BHW3, right_BHW3))
    similarity_BB: NDArray[np.float64] = left_BP @ right_BP.T
    return similarity_BB


def top1(similarity_BB: NDArray[np.float64]) -> float:
    """Share of scenes whose own image is the most similar of ``N_WAYS``, over consecutive groups."""
    groups = [slice(i, i + N_WAYS) for i in range(0, len(similarity_BB), N_WAYS)]
    right_NN = np.eye(N_WAYS, dtype=np.bool_)
    return float(np.mean([top_k(similarity_BB[group, group], right_NN, 1).value for group in groups]))


def _standardised(images_BHW3: Images) -> NDArray[np.float64]:
    values_BP = images_BHW3.reshape(len(images_BHW3), -1).astype(np.float64)
    return _unit(values_BP - values_BP.mean(1, keepdims=True))


def _unit(values_BP: NDArray[np.float64]) -> NDArray[np.float64]:
    unit_BP: NDArray[np.float64] = values_BP / np.linalg.norm(values_BP, axis=1, keepdims=True)
    return unit_BP


def evaluate(encoder: DemoEncoder, generator: DemoGenerator, seed: int = FRESH_SEED) -> dict[str, Any]:
    """Figures on ``N_SCENES`` new scenes, with controls."""
    rng = np.random.default_rng(seed)
    shown = render_batch(random_scenes(rng, N_SCENES), generator.image_size)
    tokens_BND = encoder.encode(shown)
    drawn = generator.generate(tokens_BND, seed=0)
    others = generator.generate(np.roll(tokens_BND, 1, axis=0), seed=0)
    mean = np.broadcast_to(shown.mean(0), shown.shape)
    unit_BT = _unit_tokens(tokens_BND)

    def through(noise_BND: NDArray[np.float32], level: float) -> dict[str, float]:
        noisy_BND = tokens_BND + np.float32(level) * noise_BND
        pictures = generator.generate(noisy_BND, seed=0)
        return {
            "psnr_db": psnr_db(pictures, shown),
            "top1_by_pixels": top1(correlations(pictures, shown)),
            "top1_by_tokens": top1(_unit_tokens(noisy_BND) @ unit_BT.T),
        }

    return {
        "scenes": {"n": N_SCENES, "seed": seed},
        "psnr_db_by_evaluations": {
            str(n): psnr_db(generator.generate(tokens_BND, seed=0, steps=n), shown) for n in (1, 2, 4, 8)
        },
        "psnr_db_controls": {"mean_picture": psnr_db(mean, shown), "tokens_of_another_scene": psnr_db(others, shown)},
        "pixel_correlation": float(np.diag(correlations(drawn, shown)).mean()),
        "identification": {
            "ways": N_WAYS,
            "chance": 1.0 / N_WAYS,
            "top1_by_pixels": top1(correlations(drawn, shown)),
            "top1_by_tokens": top1(_unit_tokens(encoder.encode(drawn)) @ unit_BT.T),
        },
        "token_noise": {
            name: {str(level): through(noise_BND, level) for level in TOKEN_NOISE}
            for name, noise_BND in token_noises(tokens_BND, rng).items()
        },
        "digests": {"encoder": encoder.digest, "generator": generator.digest},
    }


def token_noises(tokens_BND: NDArray[np.float32], rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Noise of unit scale: the same in every direction, and with the covariance of tokens (mixtures of scenes)."""
    n = len(tokens_BND)
    mixture_BB = rng.standard_normal((n, n)) / n**0.5
    mixed_BND = np.einsum("bc,cnd->bnd", mixture_BB, tokens_BND - tokens_BND.mean(0))
    return {
        "white": rng.standard_normal(tokens_BND.shape).astype(np.float32),
        "scene_shaped": mixed_BND.astype(np.float32),
    }


def _unit_tokens(tokens_BND: NDArray[np.float32]) -> NDArray[np.float64]:
    return _unit(tokens_BND.reshape(len(tokens_BND), -1).astype(np.float64))


def sheet(encoder: DemoEncoder, generator: DemoGenerator, columns: int = 12, seed: int = FRESH_SEED) -> Images:
    """24 scenes in two bands; below each, its reconstruction from clean tokens, and from tokens with white noise of 0.6
    and with scene-shaped noise of 0.3."""
    rng = np.random.default_rng(seed)
    shown = render_batch(random_scenes(rng, 2 * columns), generator.image_size)
    tokens_BND = encoder.encode(shown)
    noise = token_noises(tokens_BND, rng)
    cases = [
        tokens_BND,
        tokens_BND + np.float32(0.6) * noise["white"],
        tokens_BND + np.float32(0.3) * noise["scene_shaped"],
    ]
    rows = [shown, *(generator.generate(tokens, seed=0) for tokens in cases)]
    bands = [np.hstack(list(row[start : start + columns])) for start in (0, columns) for row in rows]
    return np.vstack(bands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder with encoder/ and generator/")
    parser.add_argument("--sheet", type=Path, help="PNG to write: scenes and their reconstructions")
    arguments = parser.parse_args()
    encoder = DemoEncoder.load(arguments.models / "encoder")
    generator = DemoGenerator.load(arguments.models / "generator")
    figures = json.loads(json.dumps(evaluate(encoder, generator)), parse_float=lambda text: round(float(text), 4))
    text = json.dumps(figures, indent=2) + "\n"
    (arguments.models / "figures.json").write_text(text)
    print(text, end="")
    if arguments.sheet:
        Image.fromarray(sheet(encoder, generator)).save(arguments.sheet)


if __name__ == "__main__":
    main()
