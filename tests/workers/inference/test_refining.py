"""Refinement as a late version of a final image, which never delays the next trial's."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mindsight.bus import WorkQueue
from mindsight.decoders.base import PriorOptions
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.errors import BadRequest
from mindsight.generators.base import SampleOptions
from mindsight.generators.refiner.refiner import Refiner
from mindsight.protocol import Captioned, Message, Reconstruction, ReconstructionFit, Warned
from mindsight.protocol.work import BetaWork, dump_work
from mindsight.stages import Stage
from mindsight.subjects.bundle.decoder import Sampling
from mindsight.subjects.bundle.folder import Bundle
from support.families import write_mindeye2
from support.house import House
from support.linear_bundle import linear_bundle
from support.small_captioner import write_captioner
from support.small_refiner import write_refiner
from support.tiny_unclip import write_lowlevel, write_tiny
from workers.inference.worker import InferenceWorker, load_captioner, load_refiner, warm_generator

SHAPE = (16, 48)  # tokens of the tower of ``tiny_unclip``


@pytest.fixture(scope="module")
def bundle(lasting_house: House, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """MindEye2 with a low-level head."""
    weights = tmp_path_factory.mktemp("mindeye2") / "weights.safetensors"
    write_mindeye2(weights, prior=True, lowlevel=True, shape=SHAPE)
    few = Sampling(prior=PriorOptions(steps=2, draws=1), generator=SampleOptions(steps=2))
    made = replace(linear_bundle(SHAPE), decoder=MindEye2Weights(weights), sampling=few)
    return made.save(lasting_house.settings.bundles_dir / "mindeye2")


@pytest.fixture(scope="module")
def parts(lasting_house: House, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a worker loads once."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny(folder / "unclip")
    write_lowlevel(folder / "unclip" / "lowlevel")
    write_captioner(folder / "captions", *SHAPE)
    (folder / "sdxl").mkdir()
    write_refiner(folder / "sdxl")
    folders = {"generator_dir": "unclip", "captions_dir": "captions", "refiner_dir": "sdxl"}
    settings = lasting_house.settings.model_copy(update={name: folder / of for name, of in folders.items()})
    generator, captioner, refiner = warm_generator(settings), load_captioner(settings), load_refiner(settings)
    return {"settings": settings, "generator": generator, "captioner": captioner, "refiner": refiner}


@pytest.fixture
def worker(lasting_house: House, bundle: Bundle, parts: dict[str, Any]) -> InferenceWorker:
    return InferenceWorker(bus=lasting_house.bus, name="test", stop=threading.Event(), **parts)


def put(house: House, bundle: Bundle, session: str, trial: int, stage: Stage = "final") -> None:
    beta = house.blobs.put(np.random.default_rng(trial).normal(size=bundle.space.n_voxels).astype("<f4").tobytes())
    work = BetaWork(session=session, run=1, trial=trial, stage=stage, beta=beta, bundle="mindeye2", logged_t=0.0)
    WorkQueue(house.bus, "pictures").put(work.key, dump_work(work))


def carry_out_all(worker: InferenceWorker) -> None:
    while (task := worker._next_picture()) is not None:
        worker._do(task)


def versions(messages: list[Message]) -> list[tuple[int, str]]:
    return [(m.trial, m.version) for m in messages if isinstance(m, Reconstruction)]


def pixels(house: House, made: Reconstruction) -> np.ndarray:
    with Image.open(io.BytesIO(house.blobs.get(made.image))) as image:
        return np.array(image)


@pytest.mark.slow
def test_a_final_image_is_refined_by_its_caption_when_nothing_else_waits(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker, parts: dict[str, Any]
) -> None:
    lasting_house.open("ses-refined", "mindeye2")
    for trial in (1, 2):
        put(lasting_house, bundle, "ses-refined", trial)
    put(lasting_house, bundle, "ses-refined", 3, "fast")
    carry_out_all(worker)
    messages = lasting_house.messages("ses-refined")
    drawn = [(trial, version) for trial in (3, 2, 1) for version in ("preview", "full")]
    assert versions(messages) == [*drawn, (1, "refined"), (2, "refined")]
    made = {(m.trial, m.version): m for m in messages if isinstance(m, Reconstruction)}
    full, refined = made[1, "full"], made[1, "refined"]
    fits = {m.image: m for m in messages if isinstance(m, ReconstructionFit)}
    assert {full.image, refined.image} <= set(fits)
    assert fits[refined.image].encoder == fits[full.image].encoder
    assert refined.generator == parts["refiner"].digest
    assert (refined.seed, refined.brain_map) == (full.seed, full.brain_map)
    assert refined.evaluations == full.evaluations + 24
    assert refined.latency_ms.refine is not None
    assert refined.latency_ms.generate is None
    (caption,) = (m.text for m in messages if isinstance(m, Captioned) and m.trial == 1)
    *_, alone = parts["refiner"].refine(pixels(lasting_house, full), caption, full.seed)
    quarter = pixels(lasting_house, refined) - 0.75 * alone  # of the low-level image
    assert quarter.min() >= -1.0
    assert quarter.max() <= 0.25 * 255.0 + 1.0
    assert quarter.std() > 0.5
    assert len(worker.refinements) == 0


@pytest.mark.slow
def test_a_refinement_makes_way_between_two_steps_and_is_done_later(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting_house.open("ses-way", "mindeye2")
    steps = []
    refine = Refiner.refine

    def watched(self: Refiner, *arguments: Any) -> Iterator[np.ndarray | None]:
        for step, made in enumerate(refine(self, *arguments), 1):
            steps.append(step)
            if len(steps) == 3:
                put(lasting_house, bundle, "ses-way", 2, "fast")
            yield made

    monkeypatch.setattr(Refiner, "refine", watched)
    put(lasting_house, bundle, "ses-way", 1)
    carry_out_all(worker)
    assert steps == [1, 2, 3, *range(1, 14)], "left after three steps, and begun again when the next trial was drawn"
    drawn = [(trial, version) for trial in (1, 2) for version in ("preview", "full")]
    assert versions(lasting_house.messages("ses-way")) == [*drawn, (1, "refined")]
    assert (len(worker.refinements), worker.refinements.dead()) == (0, [])


@pytest.mark.slow
def test_without_memory_for_it_a_session_goes_on_without_refinement(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert worker.refiner is not None
    monkeypatch.setattr(worker.refiner._base, "denoiser", too_large)
    lasting_house.open("ses-small", "mindeye2")
    for trial in (1, 2):
        put(lasting_house, bundle, "ses-small", trial)
    carry_out_all(worker)
    messages = lasting_house.messages("ses-small")
    (warning,) = (message for message in messages if isinstance(message, Warned))
    assert "no image is refined" in warning.text
    assert "MINDSIGHT_REFINER_DIR" in warning.text
    assert [version for _, version in versions(messages)] == 2 * ["preview", "full"]
    assert len(worker.refinements) == 0


def test_jobs_that_cannot_be_read_are_put_aside(worker: InferenceWorker) -> None:
    for queue in (worker.betas, worker.refinements):
        queue.put("unreadable", b"\x00")
    assert worker._next_beta() is None
    assert worker._next_picture() is None
    for queue in (worker.betas, worker.refinements):
        assert [job.key for job in queue.dead()] == ["unreadable"]
        assert len(queue) == 0


def test_a_refiner_without_a_captioner_is_refused_when_the_worker_starts(parts: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="MINDSIGHT_CAPTIONS_DIR") as error:
        load_refiner(parts["settings"].model_copy(update={"captions_dir": None}))
    assert error.value.code == "settings.refiner"
    assert load_refiner(parts["settings"].model_copy(update={"refiner_dir": None})) is None
