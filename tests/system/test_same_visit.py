"""A new participant is calibrated while being scanned, and decoded in the same visit: no manual step in between.

Bus, gateway and workers are the real processes. In the first story participant and scanner are simulated; in the second
they are a person who looks at eight kinds of images (Haxby et al., Science 2001), scanned as fast as possible.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from mindsight import assets
from mindsight.accuracy import Accuracy
from mindsight.encoders.demo import DemoEncoder
from mindsight.events import declare
from mindsight.protocol import BetaReady, BundleChanged, Message, Result
from mindsight.protocol.jobs import JobBegan, JobMessage, VersionMade
from mindsight.retrieval import CandidatePool
from mindsight.scanner import open_run
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.session import SimulatedSession
from mindsight.stages import STAGES
from support.whole_service import CONSENT, WholeService, whole_service

HOUR_RUNS = 24  # of 30 trials in 153 s: 720 trials in an hour


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeService]:
    with whole_service(tmp_path_factory.mktemp("visit")) as service:
        yield service


def simulate(service: WholeService, session: str, visit: SimulatedSession, run: int) -> None:
    """A run of the visit."""
    plan = visit.plans[run - 1]
    events = [
        {
            "onset_s": shown.onset_s,
            "duration_s": shown.duration_s,
            "trial": shown.trial,
            "candidate": f"scene-{shown.candidate:03d}",
        }
        for shown in plan.shown
    ]
    service.scan(session, run, events, visit.volumes(plan), plan.tr_s, plan.n_volumes)


def replay(service: WholeService, session: str, folder: Path, run: int) -> None:
    """A recorded run, whose motion parameters are given."""
    recorded = open_run(folder, run)
    events = [
        {name: value for name, value in asdict(event).items() if name != "occurrence"}
        for event in declare(recorded.events).events
    ]
    service.scan(
        session, run, events, recorded.volumes(), recorded.tr_s, recorded.n_volumes,
        motion=None if recorded.motion_T6 is None else "unknown",
    )  # fmt: skip


def check_handed_over(messages: Sequence[Message], of_job: Sequence[JobMessage]) -> None:
    """Each version decodes whole runs, those after it, at all stages: nothing is missing in between."""
    active = [m.bundle for m in of_job if isinstance(m, VersionMade) and m.active]
    changed = [m.bundle for m in messages if isinstance(m, BundleChanged)]
    assert changed == active[: len(changed)]
    assert len(changed) >= len(active) - 2, "the last run's, and that of betas estimated again, come when it is closed"
    results = {(m.run, m.trial, m.stage): m.model for m in messages if isinstance(m, Result)}
    first = min(run for run, _, _ in results)
    betas = {(m.run, m.trial, m.stage) for m in messages if isinstance(m, BetaReady) and m.run >= first}
    assert set(results) == betas
    runs = {(run, model) for (run, _, _), model in results.items()}
    assert len(runs) == len({run for run, _ in runs}), "no run is decoded by two versions"
    assert len({model for _, model in runs}) >= 2


def images_of(pool: CandidatePool, folder: Path) -> Path:
    """The stimuli, as an experimenter has them: files with names."""
    folder.mkdir()
    for id_, path in zip(pool.ids, pool.images or (), strict=True):
        assert path is not None
        (folder / f"{id_}.png").write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("n_runs", "share"),
    [
        pytest.param(10, 0.5, id="short", marks=pytest.mark.slow),
        pytest.param(HOUR_RUNS, 0.6, id="hour", marks=pytest.mark.figures),
    ],
)
def test_an_hour_of_scanning_is_decoded_in_the_same_visit(
    service: WholeService, tmp_path: Path, n_runs: int, share: float
) -> None:
    """share : of the noise ceiling"""
    pool, encoder = CandidatePool.load(assets.BUNDLE / "pool"), DemoEncoder.load(assets.ENCODER)
    service.done(service.service.build_pool("scenes", images_of(pool, tmp_path / "stimuli")))
    subject = service.service.enrol(CONSENT)
    session = service.console.open_session(subject, calibration=True)
    job = service.service.calibrate(subject, live=session, pool="scenes")
    hour = demo_visit(encoder.encode, encoder.image_size, seed=31, n_runs=n_runs)
    began_s = time.monotonic()
    for run in range(1, n_runs + 1):
        simulate(service, session, hour, run)
        service.await_fit(job, run)
    calibrated = service.close(session)
    of_job = service.done(job)
    print(f"{n_runs} runs in {time.monotonic() - began_s:.0f} s")
    check_handed_over(calibrated, of_job)
    live = service.accuracy(session, calibrated, "final", len(pool))
    print(f"during the calibration, each run by those before it, final: {live}")

    # the same visit goes on: another session, with the version that is active now
    session = service.console.open_session(subject)
    visit = demo_visit(encoder.encode, encoder.image_size, seed=32, n_runs=3)
    for run in (1, 2, 3):
        simulate(service, session, visit, run)
    decoded = service.close(session)
    for stage in STAGES:
        print(f"decoding session, {stage}: {service.accuracy(session, decoded, stage, len(pool))}")
    final, control = (service.accuracy(session, decoded, "final", len(pool), lag) for lag in (0, 7))
    ceiling = visit.ceiling()
    print(f"ceiling {ceiling}; control, another trial's image: {control}")
    assert final.n == 90
    assert final.value >= share * ceiling.value
    assert control.value < 0.12


@pytest.mark.slow
def test_a_real_brain_is_calibrated_run_by_run(service: WholeService, shared: Path) -> None:
    """Runs 1 to 6 calibrate, each decoded by those before it; runs 7 to 9 are decoded in a session after them.

    Meanwhile the job's process is killed twice, and once the worker that started it.

    The design is known beforehand: blocks that repeat once in a run, so that the drift model must leave slow signals.
    """
    folders = [shared / "data" / "haxby2001" / f"run-{run:03d}" for run in range(1, 10)]
    subject = service.service.enrol(CONSENT)
    session = service.console.open_session(subject, calibration=True, high_pass_hz=0.002)
    job = service.service.calibrate(subject, live=session)
    for run, folder in enumerate(folders[:6], 1):
        replay(service, session, folder, run)
        if run == 3:  # while it reads or fits this run
            service.kill(job)
        if run == 4:
            service.kill(job)
            service.kill_worker()
        service.await_fit(job, run)
    calibrated = service.close(session)
    of_job = service.done(job)
    assert sum(isinstance(message, JobBegan) for message in of_job) >= 3
    check_handed_over(calibrated, of_job)
    versions = service.service.versions(subject)["versions"]
    assert len({version["source"] for version in versions}) == len(versions), "nothing is made twice"
    live: dict[str, Accuracy] = {}
    for stage in STAGES:
        live[stage] = service.accuracy(session, calibrated, stage, 8)
        print(f"during the calibration, each run by those before it, {stage}: {live[stage]}")

    session = service.console.open_session(subject)
    for run, folder in enumerate(folders[6:], 1):
        replay(service, session, folder, run)
    decoded = service.close(session)
    for stage in STAGES:
        print(f"runs 7 to 9, {stage}: {service.accuracy(session, decoded, stage, 8)}")
    final, control = (service.accuracy(session, decoded, "final", 8, lag) for lag in (0, 3))
    print(f"control, another trial's label: {control}")
    assert final.n == 24
    assert final.interval[0] > final.chance
    assert live["final"].interval[0] > live["final"].chance
    assert control.interval[0] <= control.chance
