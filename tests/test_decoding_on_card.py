"""One trial in half precision, with the pool where a card would have it. The CPU takes a card's place if
there is none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mindsight.decoders.base import PriorOptions
from mindsight.decoders.mindeye2.decoder import MindEye2Weights
from mindsight.decoding import Reconstructed, Retrieval, TrialDecoder
from mindsight.generators.base import SampleOptions
from mindsight.generators.registry import load_generator
from mindsight.retrieval.on_card import PoolOnCard
from mindsight.subjects.bundle.decoder import Sampling
from mindsight.subjects.bundle.folder import Bundle
from mindsight.weights.device import HOST, Placement
from support.card import CARD
from support.families import unclip_demo, write_mindeye2
from support.linear_bundle import N_VOXELS, linear_bundle, ticks

HALF_ERROR = 16 * 2.0**-11  # sixteen roundings of float16, one after another, that all go the same way


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    write_mindeye2(folder / "weights.safetensors", prior=True)
    made = replace(
        linear_bundle(),
        decoder=MindEye2Weights(folder / "weights.safetensors"),
        sampling=Sampling(prior=PriorOptions(steps=4, draws=2), generator=SampleOptions(steps=2)),
    )
    return made.save(folder / "saved")


@pytest.fixture(scope="module")
def beta() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=N_VOXELS), np.zeros(N_VOXELS), np.ones(N_VOXELS)


def test_a_card_gives_the_hosts_ranking_and_reconstruction_in_half_precision(
    bundle: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    unclip_demo(tmp_path / "generator")
    on_card, on_host = (
        TrialDecoder(
            bundle,
            clock=ticks(),
            generator=load_generator(tmp_path / "generator", placement),
            placement=placement,
            n_candidates=12,
        )
        for placement in (CARD, HOST)
    )
    found, exact = on_card.retrieve(*beta, pairs=[("c0", "c1")]), on_host.retrieve(*beta, pairs=[("c0", "c1")])
    scores = {candidate.id: candidate.score for candidate in exact.candidates}
    for candidate in found.candidates:
        assert candidate.score == pytest.approx(scores[candidate.id], abs=HALF_ERROR)
    assert found.pairs[0].margin == pytest.approx(exact.pairs[0].margin, abs=2 * HALF_ERROR)
    made, other = on_card.reconstruct(found, 3), on_host.reconstruct(exact, 3)
    # the same noise, whatever the precision: the pictures differ by rounding, not by the draw
    difference = np.abs(made.pixels.astype(int) - other.pixels)
    assert 0 < difference.mean() < 255 * HALF_ERROR
    assert (made.steps, {f.dtype for f in made.features.values()}) == (other.steps, {np.dtype(np.float32)})


def test_a_reconstruction_in_another_thread_and_stream_is_the_same(
    bundle: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    unclip_demo(tmp_path / "generator")
    decoder = TrialDecoder(
        bundle, clock=ticks(), generator=load_generator(tmp_path / "generator", CARD), placement=CARD
    )
    retrieval = decoder.retrieve(*beta)
    expected = decoder.reconstruct(retrieval, 3)

    def reconstruct(of: Retrieval) -> Reconstructed:
        with CARD.stream(urgent=False):
            return decoder.reconstruct(of, 3)

    with ThreadPoolExecutor(1) as thread, CARD.stream(urgent=True):
        made = [thread.submit(reconstruct, decoder.retrieve(*beta)) for _ in range(5)]
        for one in made:
            np.testing.assert_array_equal(one.result().pixels, expected.pixels)


def test_without_memory_on_the_card_the_host_ranks(
    bundle: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = TrialDecoder(bundle, clock=ticks(), placement=CARD)
    before = decoder.retrieve(*beta)

    def full(self: PoolOnCard, _: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(PoolOnCard, "scores", full)
    after = decoder.retrieve(*beta)
    for one, other in zip(before.candidates, after.candidates, strict=True):
        assert one.score == pytest.approx(other.score, abs=2.0**-9)


def test_a_pool_that_does_not_fit_is_searched_on_the_host(
    bundle: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Placement, "free_bytes", lambda _: 10**9)
    decoder = TrialDecoder(bundle, clock=ticks(), placement=CARD)
    assert decoder.off_card is not None
    assert "12 candidates" in decoder.off_card
    monkeypatch.delattr(PoolOnCard, "rank")
    assert len(decoder.retrieve(*beta).candidates) == 10


def test_a_pool_that_another_program_left_no_room_for_is_searched_on_the_host(
    bundle: Bundle, beta: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> PoolOnCard:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(PoolOnCard, "put", full)
    decoder = TrialDecoder(bundle, clock=ticks(), placement=CARD)
    assert decoder.off_card is not None
    assert "expected enough free memory" in decoder.off_card
    assert len(decoder.retrieve(*beta).candidates) == 10


def test_a_linear_decoder_computes_on_the_host_and_is_ranked_on_the_card(
    beta: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    found, exact = (
        TrialDecoder(linear_bundle(), clock=ticks(), placement=placement).retrieve(*beta) for placement in (CARD, HOST)
    )
    for one, other in zip(found.candidates, exact.candidates, strict=True):
        assert one.score == pytest.approx(other.score, abs=2.0**-9)
    np.testing.assert_array_equal(*(next(iter(r.condition.values())) for r in (found, exact)))
