"""The inference worker as a process: one result and one reconstruction per beta, whatever happens to the worker."""

from __future__ import annotations

import contextlib
import io
import os
import queue
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mindsight import assets
from mindsight.bus import Bus, Log, WorkQueue
from mindsight.captions import Captioner
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.decoding import TrialDecoder
from mindsight.encoders.demo import DemoEncoder, EncoderConfig
from mindsight.errors import MindsightError, ModelMismatch
from mindsight.generators.base import Drawn
from mindsight.generators.registry import load_encoder_of
from mindsight.generators.unclip.demo import DemoGenerator
from mindsight.glm.normalise import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.journal.sessions import Sessions
from mindsight.protocol import NO_FITS, Captioned, Message, Reconstruction, ReconstructionFit, Result, WarmingUp, Warned
from mindsight.protocol.work import BetaWork, Repeat, dump_work, parse_work
from mindsight.reconstruction_fit import FitMeter, token_cosine
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.subjects.bundle.fit import FitCalibration, MismatchedFit
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume
from mindsight.weights.device import HOST, Placement
from support.card import CARD
from support.house import House
from support.small_captioner import write_captioner
from workers.inference.worker import InferenceWorker, load_captioner, warm_generator

V, N = 60, 12
rng = np.random.default_rng(1)
TOKENS = rng.normal(size=(N, 16, 64)).astype(np.float32)
VOXELS_NV = (TOKENS.reshape(N, -1) @ rng.normal(size=(16 * 64, V)) / 10.0).astype(np.float32)


@pytest.fixture
def bundle(house: House) -> Bundle:
    """A linear decoder that has learnt twelve images by heart."""
    mask = np.zeros((6, 6, 6), np.bool_)
    mask.reshape(-1)[:V] = True
    z_NV = (VOXELS_NV - VOXELS_NV.mean(axis=0)) / VOXELS_NV.std(axis=0)
    made = Bundle(
        subject="sub-test",
        created="2026-01-01T00:00:00+00:00",
        options=IngestOptions(),
        space=SubjectSpace(Volume(rng.integers(0, 900, (6, 6, 6)).astype(np.int16), np.eye(4), 1.5, 1, 0), mask),
        statistics=Statistics(VOXELS_NV.mean(axis=0), VOXELS_NV.std(axis=0), N),
        calibration=Calibration(temperature=0.05, null_confidence=0.2, log_loss=1.0, n=N),
        pool=CandidatePool(tuple(f"picture-{i}" for i in range(N)), TOKENS),
        decoder=LinearDecoder.fit(z_NV, TOKENS),
    )
    return made.save(house.settings.bundles_dir / "known")


def put(house: House, trial: int, bundle: str, *others: int, queue: str = "inference", session: str = "ses-a") -> None:
    """A job: the beta of image ``trial - 1``; ``others`` are trials to average it with."""
    work = BetaWork(
        session=session,
        run=1,
        trial=trial,
        stage="fast",
        beta=house.blobs.put(VOXELS_NV[trial - 1].astype("<f4").tobytes()),
        repeats=tuple(Repeat(beta=house.blobs.put(VOXELS_NV[o - 1].astype("<f4").tobytes())) for o in others),
        n_statistics=N,
        n_run=2,
        warming_up=WarmingUp(n=2, of=6),
        pairs=(("picture-0", "picture-1"),),
        bundle=bundle,
        logged_t=time.time(),
    )
    WorkQueue(house.bus, queue).put(work.key, dump_work(work), identity=work.beta)


def count(messages: list[Message], kind: type[Message]) -> int:
    return sum(isinstance(message, kind) for message in messages)


def full(messages: list[Message]) -> list[Reconstruction]:
    """Without the previews."""
    return [message for message in messages if isinstance(message, Reconstruction) and message.version == "full"]


def drawn(messages: list[Message]) -> int:
    return len(full(messages))


@pytest.mark.slow
def test_every_beta_has_one_result_and_one_reconstruction_though_the_worker_is_killed(
    house: House, bundle: Bundle
) -> None:
    house.open("ses-a", "known")
    for trial in range(1, N + 1):
        put(house, trial, "known")
    worker = house.start("workers.inference")
    house.wait("ses-a", lambda messages: drawn(messages) >= 2)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(10)
    put(house, 3, "known")  # and a job comes again: it is a duplicate
    # what the killed worker held is stale after half a minute; do not wait for it here, but let a new one do the rest
    with at_work(house):
        messages = house.wait("ses-a", lambda messages: drawn(messages) >= N - 1)
    results = {m.trial: m for m in messages if isinstance(m, Result)}
    assert sorted(results) == list(range(1, N + 1))
    assert count(messages, Result) == N
    versions = [(m.trial, m.version) for m in messages if isinstance(m, Reconstruction)]
    assert len(versions) == len(set(versions))
    for trial, result in results.items():
        assert result.candidates[0].id == f"picture-{trial - 1}"
        assert result.chance == pytest.approx(1 / N)
        (pair,) = result.pairs
        if trial in (1, 2):
            assert pair.chosen == f"picture-{trial - 1}"
            assert pair.probability > 0.9
        assert result.model == bundle.digest
        assert result.pool == bundle.pool_digest
    picture = next(m for m in messages if isinstance(m, Reconstruction) and m.version == "full")
    with Image.open(io.BytesIO(house.blobs.get(picture.image))) as image:
        assert image.size == (64, 64)
    assert picture.brain_map is not None
    with Image.open(io.BytesIO(house.blobs.get(picture.brain_map))) as image:
        assert image.size[0] == 3 * image.size[1]


@contextlib.contextmanager
def at_work(house: House, placement: Placement = HOST) -> Iterator[None]:
    """The worker in a thread of the test, for what needs no process of its own: starting one takes seconds."""
    with contextlib.closing(Bus.from_settings(house.settings)) as bus:
        stop = threading.Event()
        generator, captioner = warm_generator(house.settings, placement), load_captioner(house.settings, placement)
        worker = InferenceWorker(house.settings, bus, "test", stop, generator, captioner, placement)
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(worker.run)
            try:
                yield
            finally:
                stop.set()
        working.result()


def test_a_result_states_how_many_trials_it_averages(house: House, bundle: Bundle) -> None:
    """Two trials of image 4 outweigh one of image 7."""
    house.open("ses-a", "known")
    put(house, 7, "known", 4, 4)
    with at_work(house):
        messages = house.wait("ses-a", lambda messages: drawn(messages) == 1)
    (result,) = (m for m in messages if isinstance(m, Result))
    assert result.to_be_drawn is True
    assert (result.n_repeats, result.n_statistics) == (3, N)
    assert (result.n_run, result.warming_up) == (2, WarmingUp(n=2, of=6))
    assert [candidate.id for candidate in result.candidates[:2]] == ["picture-3", "picture-6"]


def test_a_job_that_cannot_be_done_is_reported_and_put_aside(house: House, bundle: Bundle) -> None:
    house.open("ses-a", "known")
    put(house, 1, "unknown")
    put(house, 2, "known")
    with at_work(house):
        messages = house.wait("ses-a", lambda messages: count(messages, Result) == 1 and count(messages, Warned) == 1)
    (warning,) = (m for m in messages if isinstance(m, Warned))
    assert warning.trial == 1
    assert "trial 1" in warning.text
    dead = WorkQueue(house.bus, "inference").dead()
    assert [job.key for job in dead] == ["ses-a-1-1-fast"]
    assert Log(house.bus, "ses-a", "messages").find("result-1-2-fast") is not None


@pytest.mark.parametrize("bundle_of_it", ["known", "unknown"])
def test_a_job_of_a_session_that_was_archived_meanwhile_stops_no_other(
    house: House, bundle: Bundle, bundle_of_it: str
) -> None:
    """It was archived without waiting any longer, and its log sealed: neither a result nor a warning fits in."""
    house.open("ses-a", "known")
    messages_of_it = Log(house.bus, "ses-a", "messages")
    n = messages_of_it.last_seq()
    assert messages_of_it.seal()
    house.open("ses-b", "known")
    put(house, 1, bundle_of_it)
    put(house, 2, "known", session="ses-b")
    with at_work(house):
        messages = house.wait("ses-b", lambda messages: drawn(messages) == 1)
    assert count(messages, Warned) == 0
    assert messages_of_it.last_seq() == n
    queue = WorkQueue(house.bus, "inference")
    assert (len(queue), queue.dead()) == (0, [])


def test_a_reconstruction_that_fails_is_not_reported_as_a_missing_result(house: House, bundle: Bundle) -> None:
    house.open("ses-a", "known")
    put(house, 1, "unknown", queue="pictures")
    with at_work(house):
        messages = house.wait("ses-a", lambda messages: count(messages, Warned) == 1)
    (warning,) = (m for m in messages if isinstance(m, Warned))
    assert warning.text.startswith("trial 1 of run 1 has no reconstruction or caption of its fast result: ")


def test_a_fit_follows_the_image(house: House, bundle: Bundle) -> None:
    """A bundle without a calibration of fits gives the cosine alone, one with it the percentile of its stage too."""
    meter = FitMeter(load_encoder_of(assets.GENERATOR), warm_generator(house.settings))
    quantiles = tuple(np.linspace(-1.0, 1.0, 101).tolist())
    calibrated = FitCalibration(
        encoder=meter.encoder_digest,
        generator=meter.generator_digest,
        stages={"fast": MismatchedFit(quantiles=quantiles, n=9)},
    )
    replace(bundle, fit=calibrated).save(house.settings.bundles_dir / "calibrated")
    house.open("ses-a", "known")
    put(house, 5, "known")
    put(house, 6, "calibrated")
    with at_work(house):
        messages = house.wait("ses-a", lambda messages: count(messages, ReconstructionFit) == 2)
    pictures = {m.trial: m for m in full(messages)}
    fits = {m.trial: m for m in messages if isinstance(m, ReconstructionFit)}
    for trial, fit in fits.items():
        assert pictures[trial].id < fit.id
        assert (fit.image, fit.encoder) == (pictures[trial].image, meter.encoder_digest)
        with Image.open(io.BytesIO(house.blobs.get(fit.image))) as image:
            encoded_1ND = meter.encoded(np.asarray(image))
        z_V = (VOXELS_NV[trial - 1] - VOXELS_NV.mean(axis=0)) / VOXELS_NV.std(axis=0)
        assert isinstance(bundle.decoder, LinearDecoder)
        decoded_1ND = bundle.decoder.predict(z_V[None].astype(np.float32))
        assert fit.token_cosine == pytest.approx(token_cosine(encoded_1ND, decoded_1ND), abs=1e-4)
        assert fit.latency_ms.embed is not None
    assert fits[5].fit_percentile is None
    assert fits[6].fit_percentile == pytest.approx(90.0 * (fits[6].token_cosine + 1.0) / 2.0)


def test_with_an_encoder_of_other_tokens_nothing_is_measured_which_is_said_once(
    house: House, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(assets.GENERATOR, tmp_path / "models" / "generator")
    other = DemoEncoder(EncoderConfig(widths=(8, 8, 8)))
    other.save(tmp_path / "models" / "encoder")
    house.settings.generator_dir = tmp_path / "models" / "generator"
    house.open("ses-a", "known")
    for trial in (1, 2, 3):
        put(house, trial, "known")
    with at_work(house):
        messages = house.wait("ses-a", lambda messages: drawn(messages) == 3 and has_warning(messages))
    (warning,) = (m for m in messages if isinstance(m, Warned))
    assert warning.code == NO_FITS
    assert "token cosines of reconstructions are not measured: expected features in the space" in warning.text
    assert count(messages, ReconstructionFit) == 0
    assert "inference: token cosines are not measured" in capsys.readouterr().err


def has_warning(messages: list[Message]) -> bool:
    return count(messages, Warned) > 0


def test_without_memory_for_the_encoder_only_the_fit_is_lacking(
    house: House, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> np.ndarray:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DemoEncoder, "encode", fail)
    house.open("ses-a", "known")
    put(house, 1, "known")
    with at_work(house):
        messages = house.wait("ses-a", has_warning)
    assert drawn(messages) == 1
    (warning,) = (m for m in messages if isinstance(m, Warned))
    assert (warning.code, warning.trial) == ("device.memory", 1)
    assert "no token cosine of its fast reconstruction" in warning.text


def test_a_caption_follows_the_image(house: House, bundle: Bundle, tmp_path: Path) -> None:
    house.settings.captions_dir = tmp_path / "captions"
    write_captioner(house.settings.captions_dir, 16, 64)
    house.open("ses-a", "known")
    put(house, 5, "known")
    put(house, 6, "known")
    with at_work(house):
        messages = house.wait("ses-a", lambda messages: count(messages, Captioned) == 2)
    captioner = Captioner.load(house.settings.captions_dir)
    for caption in (m for m in messages if isinstance(m, Captioned)):
        (picture,) = (m for m in full(messages) if m.trial == caption.trial)
        assert picture.id < caption.id
        assert caption.text.startswith("word")
        assert caption.model == captioner.digest
        z_V = (VOXELS_NV[caption.trial - 1] - VOXELS_NV.mean(axis=0)) / VOXELS_NV.std(axis=0)
        assert isinstance(bundle.decoder, LinearDecoder)
        assert [caption.text] == captioner.caption(bundle.decoder.predict(z_V[None].astype(np.float32)))


def test_it_holds_the_bundles_of_sessions_that_are_not_over_and_no_others(
    house: House, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned: list[set[str]] = []
    monkeypatch.setattr("workers.inference.bundles.return_free_memory", lambda: returned.append(worker.bundles.names))
    shutil.copytree(house.settings.bundles_dir / "known", house.settings.bundles_dir / "other")
    house.open("ses-known", "known")
    worker = make_worker(house)
    worker.bundles.prepare()
    assert worker.bundles.names == {"known"}
    worker.bundles.prepare(every_s=0.0)
    assert not returned
    house.open("ses-other", "other")
    Sessions(house.bus).advance("ses-known", "archived")
    worker.bundles.prepare(every_s=0.0)
    assert worker.bundles.names == {"other"}
    assert returned == [set()], "once, when the other is not loaded yet"


@pytest.mark.parametrize("fault", [ModelMismatch("damaged"), IndexError("that nobody thought of")])
def test_a_bundle_that_cannot_be_used_is_read_once_and_then_now_and_again(
    house: House, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Reading a real one takes seconds, in which no session is decoded."""
    house.open("ses-known", "known")
    worker, load, reads = make_worker(house), Bundle.load, list[str]()

    def refused(folder: Path) -> Bundle:
        reads.append(folder.name)
        raise fault

    monkeypatch.setattr(Bundle, "load", refused)
    for _ in range(3):
        worker.bundles.prepare(every_s=0.0)
        with pytest.raises(MindsightError):
            worker.bundles.get("known")
    assert reads == ["known"]
    monkeypatch.setattr(Bundle, "load", load)
    worker.bundles._refused = {name: (error, 0.0) for name, (error, _) in worker.bundles._refused.items()}
    worker.bundles.prepare(every_s=0.0)
    assert worker.bundles.names == {"known"}


def test_a_reconstruction_needs_no_second_decoding(house: House, bundle: Bundle) -> None:
    house.open("ses-a", "known")
    worker = make_worker(house)
    put(house, 3, "known")
    job = worker.betas.take("test", 1.0)
    assert job is not None
    work = parse_work(job.payload)
    worker.retrieve(work)
    decoder = worker.bundles.get("known").decoder
    decoder.retrieve = None  # type: ignore[assignment,method-assign]  # would raise
    worker.drawing.draw(work)
    del decoder.retrieve
    kept = house.messages("ses-a")
    assert drawn(kept) == 1
    # a worker without the retrieval decodes the beta itself, and reconstructs the same image
    other = make_worker(house)
    other.drawing.draw(work)
    assert house.messages("ses-a") == kept


def make_worker(house: House) -> InferenceWorker:
    return InferenceWorker(house.settings, house.bus, "test", threading.Event(), warm_generator(house.settings))


def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card's memory is used up in the next call of the generator."""
    versions = DemoGenerator.versions
    left = [1]

    def versions_or_fail(self: DemoGenerator, *arguments: Any, **options: Any) -> Iterator[Drawn]:
        if left and left.pop():
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield from versions(self, *arguments, **options)

    monkeypatch.setattr(DemoGenerator, "versions", versions_or_fail)


def test_without_memory_for_its_first_reconstruction_a_bundle_still_ranks(
    house: House, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house.open("ses-a", "known")
    worker = make_worker(house)
    without_memory(monkeypatch)
    worker.bundles.prepare()
    assert worker.bundles.names == {"known"}
    assert "no reconstruction with bundle known so far" in capsys.readouterr().err


def test_a_worker_on_a_card_gives_what_the_host_gives(house: House, bundle: Bundle) -> None:
    """Up to half precision: a score is off by a few units in float16's last place, an image by little on average."""
    house.open("ses-a", "known")
    put(house, 3, "known")
    with at_work(house, CARD):
        messages = house.wait("ses-a", lambda messages: drawn(messages) == 1)
    host = TrialDecoder(bundle, clock=time.monotonic, generator=warm_generator(house.settings))
    exact = host.retrieve(VOXELS_NV[2], bundle.statistics.mean_V, bundle.statistics.std_V)
    scores = {candidate.id: candidate.score for candidate in exact.candidates}
    (result,) = (m for m in messages if isinstance(m, Result))
    assert result.candidates[0].id == "picture-2"
    for candidate in result.candidates[:5]:
        assert candidate.score == pytest.approx(scores[candidate.id], abs=2.0**-9)
    (made,) = full(messages)
    with Image.open(io.BytesIO(house.blobs.get(made.image))) as image:
        difference = np.asarray(image).astype(int) - host.reconstruct(exact, made.seed).pixels
    assert np.abs(difference).mean() < 2.0


def test_between_trials_the_next_one_is_prepared_by_its_seed(
    house: House, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = queue.Queue[int]()
    monkeypatch.setattr(TrialDecoder, "expect", lambda _, seed: expected.put(seed))
    house.open("ses-a", "known")
    with at_work(house):
        put(house, 1, "known")
        seed = expected.get(timeout=30.0)
        put(house, 2, "known")
        messages = house.wait("ses-a", lambda messages: drawn(messages) == 2)
    assert [m.seed == seed for m in full(messages)] == [False, True]
