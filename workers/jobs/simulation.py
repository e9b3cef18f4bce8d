"""The demo's simulated participant and scanner as a job: a console like any other, with a key of its own.

Knows nothing of decoding. A job that was ended goes on after the last volume that the service has.
"""

from __future__ import annotations

import time
from pathlib import Path

from mindsight import assets
from mindsight.client import Console
from mindsight.client.address import gateway_url
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import NotFound
from mindsight.protocol.jobs import SimulationTask
from mindsight.settings import Settings
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.experiment import Design, RunPlan
from mindsight.simulator.session import SimulatedSession
from mindsight.subjects.bundle.pool import load_pool
from workers.jobs.desk import Desk

KEY = "console.key"
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
        sent, n = 0, sum(plan.n_volumes for plan in visit.plans)
        for plan in visit.plans:
            sent = _run(desk, console, visit, plan, images, task.speed, (sent, n))
        if task.close:
            console.close_session()
    return f"{n} volumes of {len(visit.plans)} runs"


def _visit(task: SimulationTask) -> SimulatedSession:
    encoder = DemoEncoder.load(assets.ENCODER)
    design = Design(trials_per_run=task.trials, repeats_per_run=max(1, task.trials // 10))
    return demo_visit(encoder.encode, encoder.image_size, seed=task.seed, n_runs=task.runs, design=design)


def _run(
    desk: Desk,
    console: Console,
    visit: SimulatedSession,
    plan: RunPlan,
    images: dict[str, bytes],
    speed: float,
    count: tuple[int, int],
) -> int:
    """Send one run from the volume that the service expects next. count : volumes before it, and of all runs"""
    before, n = count
    if any(state.run == plan.run and state.ended for state in console.runs()):
        return before + plan.n_volumes
    first = console.start_run(plan.run, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes)
    for shown in plan.shown:
        candidate = f"scene-{shown.candidate:03d}"
        console.add_event(
            plan.run,
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
        console.send(volume)
        desk.progress("volumes", before + volume.index + 1, n)
    console.end_run(plan.run)
    return before + plan.n_volumes


def _images() -> dict[str, bytes]:
    """What the participant may be shown, by its id in the pool."""
    pool = load_pool(assets.BUNDLE)
    return {id_: path.read_bytes() for id_, path in zip(pool.ids, pool.images or (), strict=True) if path is not None}
