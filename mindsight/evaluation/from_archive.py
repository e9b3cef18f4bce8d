"""``mindsight evaluate ARCHIVE``: a session's archive becomes a folder of answers, with controls where a bundle is too.

Knows nothing of metrics: ``evaluate`` measures the folder. Letters: K pictures, S showings, R trials, V voxels.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest, ModelMismatch
from mindsight.evaluation.controls import exchanged, noise_tokens
from mindsight.evaluation.inputs import Manifest
from mindsight.evaluation.metrics.resize import as_pictures
from mindsight.evaluation.session import (
    SessionAnswers,
    ShownTrial,
    live_figures,
    pictures_of,
    read_session,
)
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
) -> None:
    """Write what ``evaluate_folder`` reads: ``answers/``, ``images.npy``, and with a bundle ``image_tokens.npy``.

    Several showings of a picture are several samples of it; where one was shown more often, its first showings count.

    bundle : the one the session was decoded with. With it the archived betas are decoded once more, each run z-scored
        by itself, for retrieval both ways and for the controls: betas of other trials through the whole path, and noise
        into the generator
    generator : its folder; None: the one that ships with Mindsight

    Raises BadRequest (``archive.answers``) where no picture has a reconstruction at that stage, ModelMismatch
    (``archive.bundle``) where the bundle is another one.
    """
    session = read_session(archive)
    shown = pictures_of(session, stage)
    if len(shown) < 2:
        raise BadRequest(
            f"expected two pictures or more with {stage} reconstructions in {archive.name}, got {len(shown)}: archive"
            " the session with its pictures, or name another stage",
            code="archive.answers",
        )
    answers = out / "answers"
    answers.mkdir(parents=True, exist_ok=True)
    _forget(out)
    _write_pictures(out / "images.npy", [_picture(trials[0].picture) for trials in shown])
    recons = [[_picture(session.drawn[*trial.key, stage]) for trial in trials] for trials in shown]
    np.save(answers / "reconstructions.npy", np.stack([np.stack(samples) for samples in recons]))
    figures = live_figures(session, np.random.default_rng([seed, 4]))
    (answers / "live.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    manifest = _manifest(session, shown, stage)
    (answers / "manifest.json").write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if bundle is not None:
        _Decoding(archive, bundle, generator, seed).write(shown, out)


def _forget(out: Path) -> None:
    """What an earlier export with a bundle left, which would not belong to this one."""
    for path in (out / "image_tokens.npy", out / "answers" / "tokens.npy"):
        path.unlink(missing_ok=True)
    for name in (_SHUFFLED, _NOISE):
        shutil.rmtree(out / "answers" / "controls" / name, ignore_errors=True)


def _manifest(session: SessionAnswers, shown: Sequence[Sequence[ShownTrial]], stage: Stage) -> Manifest:
    names = [trials[0].truth or f"run {trials[0].run} trial {trials[0].trial}" for trials in shown]
    numbers = all(name.isdigit() for name in names) and len({int(name) for name in names}) == len(names)
    return Manifest(
        name=f"{stage} answers",
        image_set=f"session {session.name}",
        image_ids=tuple(int(name) for name in names) if numbers else tuple(range(len(names))),
        image_names=() if numbers else tuple(names),
        selection="none",
    )


def _picture(path: Path | None) -> NDArray[np.uint8]:
    from PIL import Image

    assert path is not None  # pictures_of gives such trials only
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _write_pictures(path: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """As they are, or all as the protocol compares them where they differ in size."""
    if len({picture.shape for picture in pictures}) > 1:
        np.save(path, np.concatenate([as_pictures(picture[None]) for picture in pictures]))
    else:
        np.save(path, np.stack(pictures))


class _Decoding:
    """The archived betas through the bundle once more."""

    def __init__(self, archive: Path, bundle: Path, generator: Path | None, seed: int) -> None:
        from mindsight import assets
        from mindsight.decoding import TrialDecoder
        from mindsight.generators.registry import load_generator
        from mindsight.subjects.bundle.folder import Bundle

        self._bundle = Bundle.load(bundle)
        self._require_same(archive)
        self._generator = load_generator(generator or assets.GENERATOR)
        self._decoder = TrialDecoder(self._bundle, clock=time.perf_counter, generator=self._generator)
        self._betas = _read_betas(archive)
        self._seed = seed

    def write(self, shown: Sequence[Sequence[ShownTrial]], out: Path) -> None:
        pool = self._bundle.pool
        if any(trials[0].candidate not in pool.ids for trials in shown):
            raise ModelMismatch(
                "expected every picture that was shown in the bundle's pool: without it there is no retrieval",
                code="archive.bundle",
            )
        rng = np.random.default_rng([self._seed, 5])
        np.save(out / "image_tokens.npy", np.stack([pool.embeddings[pool.place(str(t[0].candidate))] for t in shown]))
        np.save(out / "answers" / "tokens.npy", np.stack([self._embed(trials) for trials in shown]))
        order = exchanged(np.zeros(len(shown)), rng)
        others = [shown[place] for place in order]
        shuffled = out / "answers" / "controls" / _SHUFFLED
        shuffled.mkdir(parents=True, exist_ok=True)
        np.save(shuffled / "tokens.npy", np.stack([self._embed(trials) for trials in others]))
        np.save(shuffled / "reconstructions.npy", np.stack([self._draw(trials) for trials in others]))
        needed = list(self._generator.spaces.values())
        if len(needed) == 1 and pool.space.matches(needed[0]):
            noise = out / "answers" / "controls" / _NOISE
            noise.mkdir(parents=True, exist_ok=True)
            tokens = noise_tokens(np.array(pool.embeddings, np.float32), rng)[rng.integers(len(pool), size=len(shown))]
            options = self._bundle.sampling.generator
            drawn = [self._generator({needed[0].name: one[None]}, self._seed, options)[0] for one in tokens]
            np.save(noise / "reconstructions.npy", np.stack(drawn))

    def _embed(self, trials: Sequence[ShownTrial]) -> NDArray[np.float32]:
        return self._decoder.embed(*self._beta(trials))

    def _draw(self, trials: Sequence[ShownTrial]) -> NDArray[np.uint8]:
        return self._decoder.reconstruct(self._decoder.retrieve(*self._beta(trials[:1])), self._seed).pixels

    def _beta(self, trials: Sequence[ShownTrial]) -> _Betas:
        """(R, V) betas, means and standard deviations."""
        beta, mean, std = zip(*(self._betas[trial.key] for trial in trials), strict=True)
        return np.stack(beta), np.stack(mean), np.stack(std)

    def _require_same(self, archive: Path) -> None:
        said = json.loads((archive / "derivatives" / "mindsight" / "provenance.json").read_text(encoding="utf-8"))
        if self._bundle.digest not in said["models"]:
            raise ModelMismatch(
                f"expected the bundle that the session was decoded with ({', '.join(said['models'])}), got"
                f" {self._bundle.digest}",
                code="archive.bundle",
            )


def _load(path: Path) -> NDArray[np.float32]:
    import nibabel

    image: Any = nibabel.load(path)
    return np.asarray(image.dataobj, dtype=np.float32)


def _read_betas(archive: Path) -> dict[tuple[int, int], _Betas]:
    """(run, trial) -> (V,) final beta, and the mean and standard deviation of its run's."""
    derived = archive / "derivatives" / "mindsight"
    betas: dict[tuple[int, int], _Betas] = {}
    mask_XYZ = _load(next(derived.glob("sub-*/ses-*/func/*_desc-decoder_mask.nii.gz"))) > 0
    for path in derived.glob("sub-*/ses-*/func/*_desc-final_stat-effect_statmap.nii.gz"):
        run = int(path.name.split("_run-")[1].split("_")[0])
        betas_KV = _load(path)[mask_XYZ].T
        mean_V, std_V = betas_KV.mean(axis=0), betas_KV.std(axis=0)
        with path.with_name(path.name.replace(".nii.gz", ".tsv")).open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                betas[run, int(row["trial"])] = (betas_KV[int(row["volume"])], mean_V, std_V)
    return betas
