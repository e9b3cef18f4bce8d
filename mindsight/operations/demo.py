"""``mindsight demo``: a simulated visit through the real service.

Only participant and scanner are simulated. Bus, gateway, ingest and inference run as processes of their own, and this
one is their console: it sends volumes over HTTP and reads the message stream, like any client.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from mindsight import assets
from mindsight.client import Console, Watch
from mindsight.errors import Conflict, DeadlineExceeded
from mindsight.operations.demo_outcome import Outcome, text_of
from mindsight.operations.supervisor import Supervisor, wait_for_stop
from mindsight.operations.welcome import Heard, dashboard
from mindsight.protocol import Message, SessionArchived
from mindsight.settings import Settings, read_settings
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.experiment import Design, RunPlan
from mindsight.simulator.session import SimulatedSession
from mindsight.subjects.bundle.pool import load_pool

BUNDLE = "demo"
VISIT_SEED, N_RUNS = 21, 2
ARCHIVE_S = 120.0  # from the end of the session to its archive
RUN_S, FASTEST_RUN_S = 153.0, 8.0
USUAL_START_S, USUAL_SIMULATION_S, USUAL_END_S = 12.0, 4.0, 8.0  # of the service, the participant, the last results

Report = Callable[[str, float], None]


def run_demo(
    *,
    once: bool,
    speed: float,
    data_dir: Path | None,
    n_runs: int = N_RUNS,
    design: Design | None = None,
    report: Report = lambda what, done: None,
) -> None:
    """Start the service, stream a simulated visit into it, print the outcome.

    once : end then, with JSON on the last line; otherwise keep the service up until Ctrl-C
    speed : times real time; infinity for as fast as possible
    data_dir : None makes a new folder in the data folder, so that an earlier demo is neither in the way nor lost
    report : receives what is being done, and the share of the usual time that is over; 1 when the outcome follows
    n_runs, design : of the visit, see ``demo_visit``

    Raises Conflict (``demo.data_dir``) for a folder whose keys were already printed, DeadlineExceeded.
    """
    folder = data_dir or read_settings().data_dir / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    settings = read_settings(data_dir=folder.absolute(), port=0, redis_url="embedded://")
    shutil.copytree(assets.BUNDLE, settings.bundles_dir / BUNDLE, dirs_exist_ok=True)
    visit_s = n_runs * max(RUN_S / speed, FASTEST_RUN_S)
    share = _Share(report, USUAL_START_S + USUAL_SIMULATION_S + visit_s + USUAL_END_S)
    heard = Heard()
    supervisor = Supervisor(settings, announce=heard, report=share.of(USUAL_START_S))
    url = supervisor.start()
    try:
        share.of(USUAL_SIMULATION_S)("simulating a participant", 0.0)
        visit = _simulate(n_runs, design)
        outcome = _visit(url, _experimenter(heard), settings, visit, speed, share, visit_s)
        report("done", 1.0)
        if once:
            print(json.dumps(outcome.summary()), flush=True)
        else:
            print(text_of(outcome), flush=True)
            print("\nThe dashboard stays up. Ctrl-C ends the demo.", flush=True)
            wait_for_stop(supervisor)
    finally:
        supervisor.stop()


class _Share:
    """Phases, each of a usual time, as shares of the whole."""

    def __init__(self, report: Report, total_s: float) -> None:
        self._report, self._total_s, self._over_s = report, total_s, 0.0

    def of(self, usual_s: float) -> Report:
        """A report of the next phase."""
        before_s = self._over_s
        self._over_s += usual_s
        return lambda what, done: self._report(what, min(0.99, (before_s + done * usual_s) / self._total_s))


def _experimenter(heard: Heard) -> str:
    key = heard.keys().get("experimenter")
    if key is None:
        raise Conflict(
            "expected a new data folder, got one whose keys were already printed: name another with --data-dir",
            code="demo.data_dir",
        )
    return key


def _visit(
    url: str, key: str, settings: Settings, visit: SimulatedSession, speed: float, share: _Share, visit_s: float
) -> Outcome:
    """Stream the visit into a session of its own. visit_s : that its runs usually take"""
    images = _images(settings)
    messages: list[Message] = []
    with Console(url, key, spool_dir=settings.data_dir / "spool") as console:
        session = console.open_session(console.enrol(bundle=BUNDLE))
        print(f"dashboard: {dashboard(url, key, session)}", file=sys.stderr, flush=True)
        # ends when the session is archived
        watcher = threading.Thread(target=lambda: messages.extend(Watch(url, key, session)), daemon=True)
        watcher.start()
        began_s, n_sent, truth = time.monotonic(), 0, dict[tuple[int, int], str]()
        for plan in visit.plans:
            report = share.of(visit_s / len(visit.plans))
            truth |= _declare(console, visit, plan, images)
            n_sent += _send(console, visit, plan, speed, report, len(visit.plans))
            console.end_run(plan.run)
        console.close_session()
    share.of(USUAL_END_S)("waiting for the last results and the archive", 0.0)
    ceiling = visit.ceiling()
    watcher.join(ARCHIVE_S)
    archived = next((message for message in messages if isinstance(message, SessionArchived)), None)
    if archived is None:
        raise DeadlineExceeded(
            f"the session was not archived within {ARCHIVE_S:.0f} s of its end: see the logs in"
            f" {settings.data_dir / 'logs'}",
            code="demo.archive",
        )
    archive = settings.data_dir / archived.archive
    return Outcome(messages, truth, n_sent, ceiling, speed, time.monotonic() - began_s, archive)


def _declare(
    console: Console, visit: SimulatedSession, plan: RunPlan, images: dict[str, bytes]
) -> dict[tuple[int, int], str]:
    """Declare a run and its events; returns what each trial shows."""
    console.start_run(plan.run, task="pictures", tr_s=plan.tr_s, n_volumes=plan.n_volumes)
    truth = {}
    for shown in plan.shown:
        candidate = f"scene-{shown.candidate:03d}"
        truth[plan.run, shown.trial] = candidate
        console.add_event(
            plan.run,
            onset_s=shown.onset_s,
            duration_s=shown.duration_s,
            trial=shown.trial,
            stimulus=console.post_image(images[candidate]),
            candidate=candidate,
            label=visit.scenes[shown.candidate].describe(),
        )
    return truth


def _send(console: Console, visit: SimulatedSession, plan: RunPlan, speed: float, report: Report, n_runs: int) -> int:
    """Send a run's volumes at ``speed`` times real time; returns their number."""
    began_s, n_sent = time.monotonic(), 0
    for volume in visit.volumes(plan):
        wait_s = began_s + volume.index * plan.tr_s / speed - time.monotonic()
        if not math.isinf(speed) and wait_s > 0.0:
            time.sleep(wait_s)
        console.send(volume)
        n_sent += 1
        report(f"run {plan.run} of {n_runs}, {len(plan.shown)} images", n_sent / plan.n_volumes)
    return n_sent


def _simulate(n_runs: int, design: Design | None) -> SimulatedSession:
    from mindsight.encoders.demo import DemoEncoder

    encoder = DemoEncoder.load(assets.ENCODER)
    return demo_visit(encoder.encode, encoder.image_size, seed=VISIT_SEED, n_runs=n_runs, design=design)


def _images(settings: Settings) -> dict[str, bytes]:
    """The candidate pool's images by id; they are the ones shown."""
    pool = load_pool(settings.bundles_dir / BUNDLE)
    return {id_: path.read_bytes() for id_, path in zip(pool.ids, pool.images or (), strict=True) if path is not None}
