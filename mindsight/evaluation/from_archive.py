"""A session's archive as a folder of outputs, which ``run`` measures; with the bundle, controls too.

Knows nothing of metrics or BIDS. Letters: K images, S showings, R trials, V voxels.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindsight.archive.read import (
    DecodedSession,
    ShownTrial,
    read_bundle_digests,
    read_final_betas,
    read_session,
)
from mindsight.errors import BadRequest, ModelMismatch
from mindsight.evaluation.controls import exchanged, noise_tokens
from mindsight.evaluation.from_session import statistics_of, summary_of
from mindsight.evaluation.inputs import Manifest
from mindsight.evaluation.live import live_figures
from mindsight.evaluation.metrics.resize import as_unit_images
from mindsight.shares import Count, Report, Shares, unreported
from mindsight.stages import Stage

_Betas = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
_SHUFFLED, _NOISE = "betas_of_other_trials", "noise_into_the_generator"


def export_session(
    archive: Path,
    out: Path,
    stage: Stage = "final",
    *,
    bundle: Path | None = None,
    generator: Path | None = None,
    seed: int = 0,
    report: Report = unreported,
) -> None:
    """Write what ``evaluate_folder`` reads: ``answers/``, ``images.npy``, and with a bundle ``image_tokens.npy``.

    Several showings of an image are several samples; if one was shown more often, its first showings count.

    bundle : the one that decoded the session. With it the archived betas are decoded again, z-scored by run, for
        retrieval both ways and for two controls: betas of other trials through the whole path, and noise into the
        generator
    generator : its folder; None: the one that ships with Mindsight

    Raises BadRequest (``archive.answers``) if fewer than two images have reconstructions at that stage,
    ModelMismatch (``archive.bundle``) for another bundle.
    """
    session = read_session(archive)
    shown = _showings(session, stage)
    if len(shown) < 2:
        raise BadRequest(
            f"expected two images or more with {stage} reconstructions in {archive.name}, got {len(shown)}; choose"
            " another stage, or evaluate a session in which images were shown and reconstructed",
            code="archive.answers",
        )
    outputs = out / "answers"
    outputs.mkdir(parents=True, exist_ok=True)
    _remove_controls(out)
    report("reading images", 0.0)
    _write_images(out / "images.npy", [_read_image(trials[0].image) for trials in shown])
    recons = [[_read_image(session.reconstructions[*trial.key, stage]) for trial in trials] for trials in shown]
    np.save(outputs / "reconstructions.npy", np.stack([np.stack(samples) for samples in recons]))
    figures = live_figures(session, np.random.default_rng([seed, 4]))
    (outputs / "live.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    calibrated = None if bundle is None else statistics_of(archive, bundle)
    summary_of(archive, session, calibrated).save(outputs)
    manifest = _manifest(session, shown, stage)
    (outputs / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if bundle is not None:
        _Decoding(archive, bundle, generator, seed).write(shown, out, report)


def _showings(session: DecodedSession, stage: Stage) -> list[list[ShownTrial]]:
    """K images with their reconstructed showings, the same number of each, in the order of their first showing."""
    shown: dict[Path, list[ShownTrial]] = {}
    for trial in session.trials:
        if trial.image is not None and (*trial.key, stage) in session.reconstructions:
            shown.setdefault(trial.image, []).append(trial)
    fewest = min(map(len, shown.values()), default=0)
    return [trials[:fewest] for trials in shown.values()]


def _remove_controls(out: Path) -> None:
    """Remove the files of an earlier export with a bundle, which do not belong to this one."""
    for path in (out / "image_tokens.npy", out / "answers" / "tokens.npy"):
        path.unlink(missing_ok=True)
    for name in (_SHUFFLED, _NOISE):
        shutil.rmtree(out / "answers" / "controls" / name, ignore_errors=True)


def _manifest(session: DecodedSession, shown: Sequence[Sequence[ShownTrial]], stage: Stage) -> Manifest:
    names = [trials[0].truth or f"run {trials[0].run} trial {trials[0].trial}" for trials in shown]
    numbers = all(name.isdigit() for name in names) and len({int(name) for name in names}) == len(names)
    return Manifest(
        name=f"{stage} results",
        image_set=f"session {session.name}",
        image_ids=tuple(int(name) for name in names) if numbers else tuple(range(len(names))),
        image_names=() if numbers else tuple(names),
        selection="none",
    )


def _read_image(path: Path | None) -> NDArray[np.uint8]:
    from PIL import Image

    assert path is not None  # by _showings
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _write_images(path: Path, images: Sequence[NDArray[np.uint8]]) -> None:
    """Unchanged, or resized as the protocol compares them if they differ in size."""
    if len({image.shape for image in images}) > 1:
        np.save(path, np.concatenate([as_unit_images(image[None]) for image in images]))
    else:
        np.save(path, np.stack(images))


class _Decoding:
    """Decodes the archived betas again with the bundle."""

    def __init__(self, archive: Path, bundle: Path, generator: Path | None, seed: int) -> None:
        from mindsight import assets
        from mindsight.decoding import TrialDecoder
        from mindsight.generators.registry import load_generator
        from mindsight.subjects.bundle.folder import Bundle

        self._bundle = Bundle.load(bundle)
        self._require_same(archive)
        self._generator = load_generator(generator or assets.GENERATOR)
        self._decoder = TrialDecoder(self._bundle, clock=time.perf_counter, generator=self._generator)
        self._betas = read_final_betas(archive)
        self._seed = seed

    def write(self, shown: Sequence[Sequence[ShownTrial]], out: Path, report: Report) -> None:
        pool = self._bundle.pool
        if any(trials[0].candidate not in pool.ids for trials in shown):
            raise ModelMismatch(
                "expected every image that was shown in the bundle's pool; evaluate without --bundle, which leaves out"
                " retrieval",
                code="archive.bundle",
            )
        rng = np.random.default_rng([self._seed, 5])
        np.save(
            out / "image_tokens.npy", np.stack([pool.embeddings[pool.index_of(str(t[0].candidate))] for t in shown])
        )
        np.save(out / "answers" / "tokens.npy", np.stack([self._embed(trials) for trials in shown]))
        drawn = Shares(report, 2 * len(shown)).of("drawing controls")
        order = exchanged(np.zeros(len(shown)), rng)
        others = [shown[i] for i in order]
        shuffled = out / "answers" / "controls" / _SHUFFLED
        shuffled.mkdir(parents=True, exist_ok=True)
        np.save(shuffled / "tokens.npy", np.stack([self._embed(trials) for trials in others]))
        np.save(shuffled / "reconstructions.npy", np.stack([self._reconstruct(trials, drawn) for trials in others]))
        needed = list(self._generator.spaces.values())
        if len(needed) == 1 and pool.space.matches(needed[0]):
            noise = out / "answers" / "controls" / _NOISE
            noise.mkdir(parents=True, exist_ok=True)
            tokens = noise_tokens(np.array(pool.embeddings, np.float32), rng)[rng.integers(len(pool), size=len(shown))]
            options = self._bundle.sampling.generator
            images = []
            for one in tokens:
                images.append(self._generator({needed[0].name: one[None]}, self._seed, options)[0])
                drawn(1)
            np.save(noise / "reconstructions.npy", np.stack(images))

    def _embed(self, trials: Sequence[ShownTrial]) -> NDArray[np.float32]:
        return self._decoder.embed(*self._beta(trials))

    def _reconstruct(self, trials: Sequence[ShownTrial], drawn: Count) -> NDArray[np.uint8]:
        pixels = self._decoder.reconstruct(self._decoder.retrieve(*self._beta(trials[:1])), self._seed).pixels
        drawn(1)
        return pixels

    def _beta(self, trials: Sequence[ShownTrial]) -> _Betas:
        """(R, V) betas, means and standard deviations."""
        found = [self._betas[trial.key] for trial in trials]
        return (
            np.stack([beta.beta_V for beta in found]),
            np.stack([beta.mean_V for beta in found]),
            np.stack([beta.std_V for beta in found]),
        )

    def _require_same(self, archive: Path) -> None:
        used = read_bundle_digests(archive)
        if self._bundle.digest not in used:
            raise ModelMismatch(
                f"expected the bundle that decoded the session ({', '.join(used)}), got {self._bundle.digest}",
                code="archive.bundle",
            )
