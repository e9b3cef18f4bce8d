"""One session in the worker's own hands, with snapshots in the middle: changing limits, repeats, uncertainty."""

from __future__ import annotations

import errno
import json
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from mindsight.bus import Entry, Lease, Log, Quarantine, WorkQueue
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.errors import NotFound, StorageFull
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing import brain_mask
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.protocol import BetaReady, Instructed, Message, SpaceKnown, VolumeProcessed, Warned
from mindsight.protocol.inputs import AddEvent, Instruct, Limits, SetLimits, StartRun, parse_input
from mindsight.protocol.messages import Instruction
from mindsight.protocol.work import BetaWork, parse_work
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.simulator.experiment import RunPlan
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import Noise, SimulatedScanner
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume
from support.house import House
from workers.ingest import session_process
from workers.ingest.runner import SessionRunner
from workers.ingest.snapshot import read_snapshot, write_snapshot

ITEMS = ("tree", "house", "tree", "dog", "house", "tree")


@pytest.fixture(scope="module")
def volumes(plan: RunPlan) -> list[Volume]:
    """A short simulated run without disturbances."""
    tokens_NTD = np.random.default_rng(0).normal(size=(20, 16, 64))
    participant = Participant(2, tokens_NTD, n_voxels=400)
    scanner = SimulatedScanner(participant, 5, Noise(jumps=0, spikes=0))
    return list(scanner.run(plan, participant.responses(tokens_NTD)))


@pytest.fixture
def bundle(house: House, volumes: list[Volume]) -> Bundle:
    rng = np.random.default_rng(0)
    space = SubjectSpace(volumes[0], brain_mask(volumes[0].data))
    pool = CandidatePool(("tree", "house", "dog"), np.eye(3, dtype=np.float32))
    z_KV = rng.normal(size=(12, space.n_voxels)).astype(np.float32)
    made = Bundle(
        subject="sub-test",
        created="2026-01-01T00:00:00+00:00",
        options=IngestOptions(noise="ols", normalise="running", min_betas=2, revised_s=15.0),
        space=space,
        statistics=Statistics(np.zeros(space.n_voxels, np.float32), np.ones(space.n_voxels, np.float32), 12),
        calibration=Calibration(temperature=0.05, null_confidence=0.2, log_loss=1.0, n=12),
        pool=pool,
        decoder=LinearDecoder.fit(z_KV, np.repeat(pool.embeddings, 4, axis=0)),
        baseline=Baseline(mean_signal=1e6, tsnr=50.0),
    )
    return made.save(house.settings.bundles_dir / "made")


def run_session(
    house: House,
    name: str,
    plan: RunPlan,
    volumes: list[Volume],
    resume_at: set[int],
    instructions: Mapping[int, Instruction] = MappingProxyType({}),
    **options: object,
) -> tuple[list[Message], list[BetaWork]]:
    """All messages and jobs of a session whose worker is replaced at some volumes by one that reads the snapshot.

    instructions : after which volume each is given
    """
    recorder = house.open(name, "made", **options)  # type: ignore[arg-type]
    recorder.start_run(StartRun(t=time.time(), run=1, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes))
    events = [
        AddEvent(
            t=time.time(),
            run=1,
            trial=s.trial,
            onset_s=s.onset_s,
            duration_s=s.duration_s,
            candidate=ITEMS[s.trial - 1],
        )
        for s in plan.shown
    ]
    recorder.add_events(1, events)
    for volume in volumes:
        house.put(recorder, volume)
        if volume.index in instructions:
            given = instructions[volume.index]
            recorder.instruct(Instruct(t=time.time(), change=given, instruction=given))
        if volume.index == 24:
            limits = Limits(signal_percent="off", drift_percent=50.0)
            recorder.set_limits(SetLimits(t=time.time(), change="c", fd_mm=1e-4, limits=limits))
        if volume.index == 26:
            recorder.set_limits(SetLimits(t=time.time(), change="d", fd_mm=5.0))
    recorder.end_run(1)
    queue = WorkQueue(house.bus, f"jobs-{name}")
    lease = Lease.acquire(house.bus, name, "test", 60.0)
    assert lease is not None
    fresh = (lease, house.bus, house.blobs, queue, house.settings)
    runner = SessionRunner(name, *fresh)
    for entry in Log(house.bus, name, "input").read(0, 1000):
        if entry.seq in resume_at:
            runner.save()
            runner = SessionRunner.resume(name, *fresh)
        runner.apply(entry.seq, parse_input(entry.payload))
    jobs = []
    while (job := queue.take("test", 0.01)) is not None:
        jobs.append(parse_work(job.payload))
        job.ack()
    return house.messages(name), jobs


@pytest.mark.slow
def test_limits_repeats_and_uncertainty_survive_the_worker(
    house: House, bundle: Bundle, plan: RunPlan, volumes: list[Volume]
) -> None:
    messages, jobs = run_session(house, "ses-straight", plan, volumes, set(), average_repeats=True)
    again, jobs_again = run_session(house, "ses-resumed", plan, volumes, set(range(12, 200, 7)), average_repeats=True)
    betas = [m for m in messages if isinstance(m, BetaReady)]
    assert [(m.trial, m.stage, m.beta, m.standard_errors) for m in betas] == [
        (m.trial, m.stage, m.beta, m.standard_errors) for m in again if isinstance(m, BetaReady)
    ]
    assert [work.repeats for work in jobs] == [work.repeats for work in jobs_again]
    # the change of limits: censored of volumes 25 and 26 by a tiny threshold, and no longer after it
    processed = {m.index: m for m in messages if isinstance(m, VolumeProcessed)}
    assert all(processed[i].censored for i in (25, 26))
    assert not all(processed[i].censored for i in (27, 28))
    warned = [m for m in messages if isinstance(m, Warned) and m.code.startswith("quality.signal")]
    assert [m.code for m in warned] == ["quality.signal", "quality.signal.over"]  # the baseline is far off, until "off"
    assert [m.index for m in warned][1] == 25
    began = {m.code for m in messages if isinstance(m, Warned) and m.code.startswith("quality.")}
    assert all(code.endswith(".over") or f"{code}.over" in began for code in began)
    # every final beta brings its errors, and each answer's repeats are the newest sound betas of the same item
    newest: dict[int, str] = {}
    of_jobs = {(work.trial, work.stage): work for work in jobs}
    for beta in betas:
        if beta.stage == "final":
            assert beta.standard_errors is not None
            error_V = np.frombuffer(house.blobs.get(beta.standard_errors), "<f4")
            assert error_V.size == beta.n_voxels
            assert beta.standard_error == pytest.approx(float(np.median(error_V)), rel=1e-5)
        same = [t for t in sorted(newest) if t != beta.trial and ITEMS[t - 1] == ITEMS[beta.trial - 1]]
        assert [repeat.beta for repeat in of_jobs[beta.trial, beta.stage].repeats] == [newest[t] for t in same]
        newest.pop(beta.trial, None)
        if not beta.flagged:
            newest[beta.trial] = beta.beta
    assert max(len(work.repeats) for work in jobs) == 2
    document = json.dumps([message.model_dump(mode="json") for message in messages])
    assert "tree" in document  # of the events alone; answers do not name what was shown
    assert not any("tree" in work.model_dump_json() for work in jobs)


def test_without_being_asked_nothing_is_averaged(
    house: House, bundle: Bundle, plan: RunPlan, volumes: list[Volume]
) -> None:
    _, jobs = run_session(house, "ses-single", plan, volumes, set(), normalise="running_including", min_betas=3)
    assert jobs
    assert all(work.repeats == () for work in jobs)
    assert {work.normalised_by for work in jobs} == {"running_including"}


def test_between_pause_and_resume_betas_are_kept_and_not_decoded(
    house: House, bundle: Bundle, plan: RunPlan, volumes: list[Volume]
) -> None:
    paused: dict[int, Instruction] = {10: "pause", 16: "resume"}
    messages, jobs = run_session(house, "ses-paused", plan, volumes, {20}, paused)
    taken = [(m.instruction, m.run, m.index) for m in messages if isinstance(m, Instructed)]
    assert taken == [("start", 1, 0), ("pause", 1, 11), ("resume", 1, 17), ("end", 1, len(volumes))]
    betas = [(m.trial, m.stage) for m in messages if isinstance(m, BetaReady)]
    assert {stage for _, stage in betas} == {"fast", "revised", "final"}, "they are estimated"
    decoded = [(job.trial, job.stage) for job in jobs]
    missing = [beta for beta in betas if beta not in decoded]
    assert missing
    assert {stage for _, stage in missing} <= {"fast", "revised"}
    assert [stage for _, stage in decoded].count("final") == len(plan.shown), "the run's end comes after the pause"


def test_an_input_that_the_machine_fails_is_not_put_in_quarantine(
    house: House, plan: RunPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = house.open("ses-machine")
    house.declare(recorder, plan)
    lease = Lease.acquire(house.bus, "ses-machine", "test", 60.0)
    assert lease is not None
    runner = SessionRunner("ses-machine", lease, house.bus, house.blobs, WorkQueue(house.bus, "jobs"), house.settings)
    entry = Log(house.bus, "ses-machine", "input").read(0, 1)[0]

    def fails(error: Exception) -> list[int]:
        def apply(*_: object) -> None:
            raise error

        monkeypatch.setattr(runner, "apply", apply)
        with pytest.raises(type(error)):
            runner.take(entry)
        return list(Quarantine(house.bus, "ses-machine").read())

    assert fails(OSError(errno.EMFILE, "too many open files")) == []
    assert fails(StorageFull("the disk is full")) == []
    assert fails(ZeroDivisionError()) == [entry.seq]


def dated(house: House, session: str, plan: RunPlan, volumes: list[Volume]) -> tuple[Lease, list[Entry]]:
    """A session without a bundle, of volumes as scanners send them: with clocks and slice times."""
    recorder = house.open(session)
    house.declare(recorder, plan)
    times_s = np.arange(volumes[0].shape[2]) * 0.01
    for volume in volumes:
        at_s = 1.8e9 + volume.index * plan.tr_s
        house.put(recorder, replace(volume, acquired_s=at_s, arrived_s=at_s + 1.0, slice_times_s=times_s))
    lease = Lease.acquire(house.bus, session, "test", 60.0)
    assert lease is not None
    return lease, Log(house.bus, session, "input").read(0, 1000)


def test_a_session_without_bundle_has_the_same_space_for_every_worker(
    house: House, plan: RunPlan, volumes: list[Volume]
) -> None:
    lease, entries = dated(house, "ses-dated", plan, volumes[:12])
    fresh = (lease, house.bus, house.blobs, WorkQueue(house.bus, "none"), house.settings)
    runner = SessionRunner("ses-dated", *fresh)
    for entry in entries:
        runner.take(entry)
        runner.save()  # which publishes the space
        runner = SessionRunner.resume("ses-dated", *fresh)
    messages = house.messages("ses-dated")
    assert [m.index for m in messages if isinstance(m, VolumeProcessed)] == list(range(12))
    (known,) = (m for m in messages if isinstance(m, SpaceKnown))
    reference = decode_volume(house.blobs.get(known.reference))
    assert reference.slice_times_s is not None
    assert len(reference.slice_times_s) == reference.shape[2]
    assert not [m for m in messages if isinstance(m, Warned) and m.code == "log.diverged"]


def test_a_space_that_was_published_otherwise_is_reported_and_the_session_goes_on(
    house: House, plan: RunPlan, volumes: list[Volume]
) -> None:
    lease, entries = dated(house, "ses-other", plan, volumes[:3])
    runner = SessionRunner("ses-other", lease, house.bus, house.blobs, WorkQueue(house.bus, "none"), house.settings)
    runner.publish.space(SubjectSpace(volumes[1], brain_mask(volumes[1].data)))
    for entry in entries:
        runner.take(entry)
        runner.tidy()
    messages = house.messages("ses-other")
    assert [m.index for m in messages if isinstance(m, VolumeProcessed)] == [0, 1, 2]
    assert [m.code for m in messages if isinstance(m, Warned)].count("log.diverged") == 1


def test_a_session_whose_bundle_cannot_be_read_stops_no_other(
    house: House, bundle: Bundle, plan: RunPlan, volumes: list[Volume]
) -> None:
    """It is reported once; the session is closed and archived like any other."""
    recorder = house.open("ses-spoilt", "made")
    (house.settings.bundles_dir / "made" / "space.safetensors").write_bytes(b"spoilt")
    recorder.start_run(StartRun(t=time.time(), run=1, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes))
    recorder.add_events(1, [AddEvent(t=time.time(), run=1, trial=1, onset_s=0.0, duration_s=1.0)])
    house.put(recorder, volumes[0])
    recorder.end_run(1)
    recorder.close()
    lease = Lease.acquire(house.bus, "ses-spoilt", "test", 60.0)
    assert lease is not None
    runner = SessionRunner("ses-spoilt", lease, house.bus, house.blobs, WorkQueue(house.bus, "none"), house.settings)
    for entry in Log(house.bus, "ses-spoilt", "input").read(0, 1000):
        runner.apply(entry.seq, parse_input(entry.payload))
        runner.tidy()
    assert runner.closed
    (warned,) = (m for m in house.messages("ses-spoilt") if isinstance(m, Warned))
    assert (warned.code, warned.level) == ("bundle.tampered", "error")


def test_a_session_that_is_refused_says_so_once_in_its_messages(
    house: House, plan: RunPlan, volumes: list[Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bundle was there at its start, and is gone when the next process takes the session over."""
    lease, _ = dated(house, "ses-refused", plan, volumes[:1])

    def resume(*_: object) -> SessionRunner:
        raise NotFound("there is no bundle made", code="bundle.unknown")

    monkeypatch.setattr(SessionRunner, "resume", resume)
    monkeypatch.setattr(session_process, "read_settings", lambda: house.settings)
    monkeypatch.setattr(session_process, "_end_with_the_worker", lambda: None)
    monkeypatch.setattr(session_process, "_bound_memory", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            session_process.lead("ses-refused", lease.holder, lease.ttl_s, lease.fence.token, SimpleNamespace(value=0))
        assert ended.value.code == session_process.Ended.REFUSED
    (warned,) = (m for m in house.messages("ses-refused") if isinstance(m, Warned))
    assert (warned.code, warned.level) == ("bundle.unknown", "error")
    assert "cannot be processed, and is tried again" in warned.text


def test_a_snapshot_of_another_log_is_not_used(house: House, plan: RunPlan, volumes: list[Volume]) -> None:
    """A power failure takes the last entries from the bus, and not the file beside it; others may follow."""
    lease, entries = dated(house, "ses-ahead", plan, volumes[:3])
    fresh = (lease, house.bus, house.blobs, WorkQueue(house.bus, "none"), house.settings)
    runner = SessionRunner("ses-ahead", *fresh)
    for entry in entries:
        runner.take(entry)
    runner.save()
    assert SessionRunner.resume("ses-ahead", *fresh).position == entries[-1].seq
    held = read_snapshot(runner.snapshot_path)
    assert held is not None
    for position, changed in ((held.position + 1, {}), (held.position, {"last_input": "0" * 64})):
        write_snapshot(runner.snapshot_path, position, {**held.document, **changed}, held.arrays)
        assert SessionRunner.resume("ses-ahead", *fresh).position == 0
