"""Versions of a reconstruction, stages that are skipped, and less and less memory: each as the session's log has it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.bus import MAX_DELIVERIES, WorkQueue
from mindsight.errors import StorageFull
from mindsight.generators.engines.base import Network, PlainEngine
from mindsight.generators.unclip.sdxl.adapter import UnclipGenerator
from mindsight.protocol import Message, Reconstruction, ReconstructionSkipped, Result, Warned
from mindsight.protocol.work import BetaWork, dump_work
from mindsight.stages import Stage
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.device import HOST
from support.house import House
from support.linear_bundle import linear_bundle
from support.tiny_unclip import write_tiny
from workers.inference.memory import Level
from workers.inference.worker import InferenceWorker, warm_generator

TOKENS, CHANNELS = 16, 48  # of the tower of ``tiny_unclip``


@pytest.fixture(scope="module")
def unclip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from diffusers import AutoencoderTiny

    folder = tmp_path_factory.mktemp("unclip") / "weights"
    write_tiny(folder)
    widths = (8,) * 4
    AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths).save_pretrained(
        folder / "tiny"
    )
    return folder


@pytest.fixture(scope="module")
def bundle(lasting_house: House) -> Bundle:
    made = linear_bundle((TOKENS, CHANNELS))
    return made.save(lasting_house.settings.bundles_dir / "linear")


@pytest.fixture
def worker(lasting_house: House, bundle: Bundle, unclip_folder: Path) -> InferenceWorker:
    settings = lasting_house.settings.model_copy(update={"generator_dir": unclip_folder})
    generator = warm_generator(settings)
    return InferenceWorker(settings, lasting_house.bus, "test", threading.Event(), generator)


def make_work(house: House, bundle: Bundle, session: str, trial: int, stage: Stage = "fast") -> BetaWork:
    beta_V = np.random.default_rng(trial).normal(size=bundle.space.n_voxels)
    beta = house.blobs.put(beta_V.astype("<f4").tobytes())
    return BetaWork(session=session, run=1, trial=trial, stage=stage, beta=beta, bundle="linear", logged_t=0.0)


def of_kind(messages: list[Message], kind: type[Message]) -> list[Message]:
    return [message for message in messages if isinstance(message, kind)]


def test_a_preview_comes_first_and_both_come_once(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker
) -> None:
    lasting_house.open("ses-versions", "linear")
    work = make_work(lasting_house, bundle, "ses-versions", 1)
    worker.drawing.draw(work)
    once = lasting_house.messages("ses-versions")
    preview, full = (message for message in once if isinstance(message, Reconstruction))
    assert (preview.version, full.version) == ("preview", "full")
    assert preview.evaluations == 2 * 2  # both steps guided
    assert full.evaluations == 8 + 3
    assert preview.image != full.image
    assert (preview.brain_map is None, full.brain_map is None) == (True, False)
    assert preview.latency_ms.preview is not None
    assert preview.latency_ms.generate is None
    assert full.latency_ms.generate is not None
    assert full.latency_ms.generate > preview.latency_ms.preview
    for made in (preview, full):
        assert made.latency_ms.reconstruction is not None
        assert made.seed == full.seed
    worker.drawing.draw(work)
    assert lasting_house.messages("ses-versions") == once


def test_an_overtaken_stage_has_its_message_and_no_image(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker
) -> None:
    lasting_house.open("ses-overtaken", "linear")
    queue = WorkQueue(lasting_house.bus, "pictures")
    for stage in ("fast", "revised"):
        work = make_work(lasting_house, bundle, "ses-overtaken", 1, stage)
        queue.put(work.key, dump_work(work))
    while (task := worker._next_picture()) is not None:
        worker._do(task)
    messages = lasting_house.messages("ses-overtaken")
    (skipped,) = (message for message in messages if isinstance(message, ReconstructionSkipped))
    assert (skipped.trial, skipped.stage, skipped.text) == (1, "fast", "not drawn: a newer stage came first")
    assert {m.stage for m in messages if isinstance(m, Reconstruction)} == {"revised"}
    assert len(queue) == 0


def picture_that_waits(house: House, bundle: Bundle, session: str) -> WorkQueue:
    """The queue of pictures, with one of a new session."""
    house.open(session, "linear")
    queue, work = WorkQueue(house.bus, "pictures"), make_work(house, bundle, session, 1)
    queue.put(work.key, dump_work(work))
    return queue


def test_a_fault_that_comes_back_is_reported_and_the_worker_goes_on(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker
) -> None:
    queue = picture_that_waits(lasting_house, bundle, "ses-faulty")

    def broken(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("misaligned address")

    denoiser, worker.generator.unclip.denoiser = worker.generator.unclip.denoiser, broken  # type: ignore[attr-defined]
    try:
        for _ in range(MAX_DELIVERIES - 1):  # each time the process would end, and another take the job
            task = worker._next_picture()
            assert task is not None
            with pytest.raises(RuntimeError):
                worker._do(task)
        task = worker._next_picture()
        assert task is not None
        worker._do(task)
    finally:
        worker.generator.unclip.denoiser = denoiser  # type: ignore[attr-defined]
    (warned,) = (m for m in lasting_house.messages("ses-faulty") if isinstance(m, Warned))
    assert warned.code == "inference.fault"
    assert "no reconstruction" in warned.text
    assert "RuntimeError" in warned.text
    assert len(queue) == 0


def test_a_fault_of_a_trial_keeps_no_other_session_waiting(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = picture_that_waits(lasting_house, bundle, "ses-odd")

    def broken(*_: object) -> None:
        raise IndexError("a kind of trial that nobody thought of")

    task = worker._next_picture()
    assert task is not None
    worker._do(replace(task, carry_out=broken))
    (warned,) = (m for m in lasting_house.messages("ses-odd") if isinstance(m, Warned))
    assert (warned.code, "it failed once (IndexError)" in warned.text) == ("inference.fault", True)
    assert len(queue) == 0


def test_a_full_disk_is_waited_for_and_costs_no_delivery(
    lasting_house: House, bundle: Bundle, worker: InferenceWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting_house.open("ses-full", "linear")
    queue = WorkQueue(lasting_house.bus, "pictures")
    work = make_work(lasting_house, bundle, "ses-full", 1)
    queue.put(work.key, dump_work(work))
    monkeypatch.setattr("workers.inference.worker.STORAGE_S", 0.01)
    task = worker._next_picture()
    assert task is not None
    n_refused = 0

    def refuse() -> None:
        nonlocal n_refused
        n_refused += 1
        if n_refused <= 2 * MAX_DELIVERIES:
            raise StorageFull("expected disk space for a file, got ENOSPC")
        task.carry_out()

    worker._do(replace(task, carry_out=refuse))
    assert n_refused == 2 * MAX_DELIVERIES + 1
    assert of_kind(lasting_house.messages("ses-full"), Reconstruction)
    assert not of_kind(lasting_house.messages("ses-full"), Warned)
    assert len(queue) == 0


def limited(network: Network, rows: int) -> Callable[..., torch.Tensor]:
    """The network on a device whose memory is enough for a batch of ``rows``."""

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs[0]) > rows:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(inputs[0])} rows")
        output: torch.Tensor = network.module(*inputs)
        return output

    return run


def limit(generator: object, denoiser: int, decoder: int, preview: int) -> None:
    assert isinstance(generator, UnclipGenerator)
    networks = {one.name: one for one in generator.networks}
    assert generator.unclip.preview is not None
    tiny = Network("preview", generator.unclip.preview, networks["decoder"].inputs)  # type: ignore[arg-type]
    rows = {"denoiser": denoiser, "decoder": decoder, "keys_values": 2}
    generator.use(PlainEngine({name: limited(networks[name], n) for name, n in rows.items()}))
    generator.unclip.preview = limited(tiny, preview)


@pytest.mark.parametrize(
    ("rows", "level", "versions"),
    [
        ((2, 1, 1), Level.WHOLE, ["preview", "full"]),
        ((1, 1, 1), Level.SPARING, ["preview", "full"]),
        ((1, 0, 1), Level.PREVIEW, ["preview"]),
        ((2, 0, 0), Level.NOTHING, []),
    ],
)
def test_each_level_of_memory_gives_what_fits_and_is_reported_once(
    lasting_house: House,
    bundle: Bundle,
    worker: InferenceWorker,
    rows: tuple[int, int, int],
    level: Level,
    versions: list[str],
) -> None:
    session = f"ses-{level.name.lower()}"
    lasting_house.open(session, "linear")
    limit(worker.generator, *rows)
    for trial in (1, 2):
        work = make_work(lasting_house, bundle, session, trial)
        worker.retrieve(work)
        worker.drawing.draw(work)
    messages = lasting_house.messages(session)
    assert [m.version for m in messages if isinstance(m, Reconstruction)] == 2 * versions
    warnings = [message for message in messages if isinstance(message, Warned)]
    assert [warning.code for warning in warnings] == int(level) * ["device.memory"]
    assert all("of cpu is used up" in one.text and "end other programs" in one.text for one in warnings)
    assert all(warning.trial == 1 for warning in warnings)
    skipped = [m.trial for m in messages if isinstance(m, ReconstructionSkipped)]
    assert skipped == ([1, 2] if level == Level.NOTHING else [])
    assert len(of_kind(messages, Result)) == 2
    assert worker.drawing.levels.of(session) == level
    assert worker.drawing.levels.of("ses-next") == Level.WHOLE


def test_half_the_batch_gives_the_same_image(bundle: Bundle, worker: InferenceWorker) -> None:
    decoder = worker.bundles.get("linear").decoder
    retrieval = decoder.retrieve(np.ones(bundle.space.n_voxels), bundle.statistics.mean_V, bundle.statistics.std_V)
    whole, halved = (list(decoder.versions(retrieval, 3, sparing=sparing)) for sparing in (False, True))
    for one, other in zip(whole, halved, strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1
    np.testing.assert_array_equal(whole[-1].pixels, decoder.reconstruct(retrieval, 3).pixels)
    assert worker.placement == HOST
