"""The demo's simulated participant and scanner as a job: a console like any other, with a key of its own.

Knows nothing of decoding. A job that was ended goes on after the last volume that the service has.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from mindsight import assets
from mindsight.client import Console, planned
from mindsight.client.address import gateway_url
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import Conflict, NotFound
from mindsight.journal.states import Refusal
from mindsight.protocol.jobs import SimulationTask
from mindsight.settings import Settings
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.experiment import Design, RunPlan
from mindsight.simulator.session import SimulatedSession
from mindsight.subjects.bundle.pool import load_pool
from workers.jobs.desk import Desk

KEY = "console.key"
ENDED, CLOSED = Refusal.RUN_ENDED.value, Refusal.CLOSED.value
DEADLINE_S = 60.0  # for one request, with its repeats


def key_file(settings: Settings, job: str) -> Path:
    """Where the gateway leaves the key that the job sends volumes with."""
    return settings.jobs_dir / job / KEY


def simulate(desk: Desk, task: SimulationTask) -> str:
    """Carry the task out; what was sent, in words. Raises NotFound (``simulation.key``), and as ``Console``."""
    try:
        key = key_file(desk.settings, desk.record.job).read_text()
    except FileNotFoundError:
        raise NotFound(
            "expected the key of this simulation, it is gone: start another one", code="simulation.key"
        ) from None
    url, spool = gateway_url(desk.settings.data_dir), desk.settings.data_dir / "spool"
    with Console(url, key, session=task.session, spool_dir=spool, deadline_s=DEADLINE_S) as console:
        text = "the simulated participant gets ready: its first volume takes a moment"
        console.warn("simulation.begins", text, level="info")
        desk.progress("participant", 0, 1)
        visit, images = _visit(task), _images()
        desk.progress("participant", 1, 1)
        number, sent, n = 0, 0, sum(plan.n_volumes for plan in visit.plans)
        try:
            for plan in visit.plans:
                number, sent = _run(desk, console, visit, plan, number, images, task.speed, (sent, n))
        except Conflict as error:
            if error.code != CLOSED:
                raise
            return f"stopped after run {number}: the session was closed"
        if task.close:
            console.close_session()
    return f"{len(visit.plans)} runs, {n} volumes"


def _visit(task: SimulationTask) -> SimulatedSession:
    encoder = DemoEncoder.load(assets.ENCODER)
    design = Design(trials_per_run=task.trials, repeats_per_run=max(1, task.trials // 10))
    return demo_visit(encoder.encode, encoder.image_size, seed=task.seed, n_runs=task.runs, design=design)


def _run(
    desk: Desk,
    console: Console,
    visit: SimulatedSession,
    plan: RunPlan,
    after: int,
    images: dict[str, bytes],
    speed: float,
    count: tuple[int, int],
) -> tuple[int, int]:
    """Send one run from the volume that the service expects next; its number in the session, and the volumes so far.

    after : number of the run before; count : volumes before this run, and of all runs
    """
    before, n = count
    run, first = planned.start_run(console, after + 1, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes)
    if first == plan.n_volumes:  # by this job before it was ended
        console.end_run(run)
        return run, before + plan.n_volumes
    for shown in plan.shown:
        candidate = f"scene-{shown.candidate:03d}"
        console.add_event(
            run,
            onset_s=shown.onset_s,
            duration_s=shown.duration_s,
            trial=shown.trial,
            stimulus=console.post_image(images[candidate]),
            candidate=candidate,
            label=visit.scenes[shown.candidate].describe(),
        )
    began_s = time.monotonic() - first * plan.tr_s / speed
    for volume in visit.volumes(plan):
        if volume.index < first:
            continue
        time.sleep(max(0.0, began_s + volume.index * plan.tr_s / speed - time.monotonic()))
        try:
            console.send(replace(volume, run=run))
        except Conflict as error:
            if error.code != ENDED:
                raise
            break  # stopped by a person: the next run follows
        desk.progress("volumes", before + volume.index + 1, n)
    console.end_run(run)
    return run, before + plan.n_volumes


def _images() -> dict[str, bytes]:
    """What the participant may be shown, by its id in the pool."""
    pool = load_pool(assets.BUNDLE)
    return {id_: path.read_bytes() for id_, path in zip(pool.ids, pool.images or (), strict=True) if path is not None}
