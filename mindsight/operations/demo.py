"""``mindsight demo``: a simulated visit through the real service, and what it came to.

Only participant and scanner are simulated. Bus, gateway, ingest and inference run as processes of their own, and
this one is their console: it sends volumes over HTTP and reads what happens from the message stream, like any client.
"""

from __future__ import annotations

import json
import math
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mindsight import assets
from mindsight.accuracy import Accuracy
from mindsight.client import Console, Watch
from mindsight.errors import Conflict, DeadlineExceeded
from mindsight.operations.supervisor import Supervisor, wait_for_stop
from mindsight.protocol import (
    BetaReady,
    Message,
    Reconstruction,
    Result,
    SessionArchived,
    VolumeProcessed,
    VolumeReceived,
)
from mindsight.settings import Settings
from mindsight.simulator.demo import N_POOL, demo_visit
from mindsight.simulator.session import SimulatedSession
from mindsight.stages import STAGES
from mindsight.subjects.bundle.folder import Bundle

BUNDLE = "demo"
VISIT_SEED, N_RUNS = 21, 2
LAST_ANSWER_S = 120.0
KEY_S = 10.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a demo came to; ``summary`` is what is printed."""

    messages: list[Message]
    truth: dict[tuple[int, int], str]
    volumes_sent: int
    ceiling: Accuracy
    speed: float
    seconds: float
    archive: Path

    def top1(self, stage: str) -> Accuracy:
        hits = [
            message.candidates[0].id == self.truth[message.run, message.trial]
            for message in self.messages
            if isinstance(message, Result) and message.stage == stage
        ]
        return Accuracy.of(hits, 1.0 / N_POOL)

    def control(self) -> Accuracy:
        """Top-1 of the final answers against the picture of another trial: what no information comes to."""
        finals = [m for m in self.messages if isinstance(m, Result) and m.stage == "final"]
        hits = [
            answer.candidates[0].id == self.truth[other.run, other.trial]
            for answer, other in zip(finals, finals[7:] + finals[:7], strict=True)
        ]
        return Accuracy.of(hits, 1.0 / N_POOL)

    def summary(self) -> dict[str, Any]:
        """As JSON; the keys are what scripts rely on."""
        final = self.top1("final")
        low, high = final.interval
        results = [message for message in self.messages if isinstance(message, Result)]
        return {
            "volumes_sent": self.volumes_sent,
            "volumes_processed": sum(isinstance(message, VolumeProcessed) for message in self.messages),
            "trials": len(self.truth),
            "answers": len(results),
            "reconstructions": sum(isinstance(message, Reconstruction) for message in self.messages),
            "top1": round(final.value, 4),
            "top1_n": final.n,
            "top1_interval": [round(low, 4), round(high, 4)],
            "top1_by_stage": {stage: round(self.top1(stage).value, 4) for stage in STAGES},
            "chance": final.chance,
            "control_top1": round(self.control().value, 4),
            "ceiling": round(self.ceiling.value, 4),
            "ceiling_n": self.ceiling.n,
            "latency_ms": latencies(self.messages),
            "speed": self.speed,
            "seconds": round(self.seconds, 1),
            "archive": str(self.archive),
        }


def latencies(messages: list[Message]) -> dict[str, dict[str, float]]:
    """Median and 99th percentile per stage, in milliseconds. ``beta`` leaves out the final ones: they end a run."""
    values: dict[str, list[float]] = {}
    for message in messages:
        if not isinstance(message, VolumeReceived | VolumeProcessed | BetaReady | Result | Reconstruction):
            continue
        if isinstance(message, BetaReady) and message.stage == "final":
            continue
        for stage, value in message.latency_ms.model_dump(exclude_none=True).items():
            values.setdefault(stage, []).append(value)
    return {
        stage: {"p50": round(float(np.median(taken)), 2), "p99": round(float(np.percentile(taken, 99)), 2)}
        for stage, taken in values.items()
    }


def run_demo(*, once: bool, speed: float, data_dir: Path | None, n_runs: int = N_RUNS) -> None:
    """Start the service, stream a visit of ``n_runs`` runs into it, print the outcome; wait for Ctrl-C unless ``once``.

    Each demo has a data folder of its own, so that nothing of an earlier one is in the way or lost.
    """
    folder = data_dir or Path("mindsight-data") / f"demo-{datetime.now():%Y%m%d-%H%M%S}"
    settings = Settings(data_dir=folder.absolute(), port=0, redis_url="embedded://")
    shutil.copytree(assets.BUNDLE, settings.bundles_dir / BUNDLE, dirs_exist_ok=True)
    say = _quiet if once else _say
    keys: queue.Queue[str] = queue.Queue()

    def announce(line: str) -> None:
        role, _, key = line.partition(" key: ")
        if role == "experimenter":
            keys.put(key)

    supervisor = Supervisor(settings, announce=announce)
    say("starting bus, gateway, ingest and inference ...")
    url = supervisor.start()
    try:
        say("simulating a participant ...")
        outcome = _visit(url, _awaited(keys), settings, _simulated(n_runs), speed, say)
        if once:
            print(json.dumps(outcome.summary()), flush=True)
            supervisor.stop()
        else:
            print(_for_people(outcome), flush=True)
            print("\nThe dashboard stays up. Ctrl-C ends the demo.", flush=True)
            wait_for_stop(supervisor)
    finally:
        supervisor.stop()


def _awaited(keys: queue.Queue[str]) -> str:
    """The experimenter's key, which a thread of the supervisor may read a moment after the service is up."""
    try:
        return keys.get(timeout=KEY_S)
    except queue.Empty:
        raise Conflict(
            "expected a new data folder, got one whose keys were printed before; name another with --data-dir",
            code="demo.data_dir",
        ) from None


def _visit(
    url: str, key: str, settings: Settings, visit: SimulatedSession, speed: float, say: Callable[[str], None]
) -> Outcome:
    pictures = _pictures(settings)
    with Console(url, key, spool_dir=settings.data_dir / "spool") as console:
        subject = console.enrol(bundle=BUNDLE)
        session = console.open_session(subject)
        print(f"dashboard: {url}/#key={key}&session={session}", file=sys.stderr, flush=True)
        heard: list[Message] = []
        listener = threading.Thread(target=_listen, args=(url, key, session, heard), daemon=True)
        listener.start()
        began_s, n_sent, truth = time.monotonic(), 0, {}
        for plan in visit.plans:
            say(f"run {plan.run} of {len(visit.plans)}: {len(plan.shown)} pictures, {plan.n_volumes} volumes")
            console.start_run(plan.run, task="pictures", tr_s=plan.tr_s, n_volumes=plan.n_volumes)
            for shown in plan.shown:
                candidate = f"scene-{shown.candidate:03d}"
                truth[plan.run, shown.trial] = candidate
                console.add_event(
                    plan.run,
                    onset_s=shown.onset_s,
                    duration_s=shown.duration_s,
                    trial=shown.trial,
                    stimulus=console.post_image(pictures[candidate]),
                    candidate=candidate,
                    label=visit.scenes[shown.candidate].describe(),
                )
            run_began_s = time.monotonic()
            for volume in visit.volumes(plan):
                wait_s = run_began_s + volume.index * plan.tr_s / speed - time.monotonic()
                if not math.isinf(speed) and wait_s > 0.0:
                    time.sleep(wait_s)
                console.send(volume)
                n_sent += 1
            console.end_run(plan.run)
        console.close_session()
    say("the session is closed; waiting for its last answers and its archive ...")
    ceiling = visit.ceiling()
    listener.join(LAST_ANSWER_S)
    archived = next((message for message in heard if isinstance(message, SessionArchived)), None)
    if archived is None:
        raise DeadlineExceeded(
            f"the session was not archived within {LAST_ANSWER_S:.0f} s of its end; the logs are in"
            f" {settings.data_dir / 'logs'}",
            code="demo.archive",
        )
    archive = settings.data_dir / archived.archive
    return Outcome(heard, truth, n_sent, ceiling, speed, time.monotonic() - began_s, archive)


def _simulated(n_runs: int) -> SimulatedSession:
    from mindsight.encoders.demo import DemoEncoder

    encoder = DemoEncoder.load(assets.ENCODER)
    return demo_visit(encoder.encode, encoder.image_size, seed=VISIT_SEED, n_runs=n_runs)


def _pictures(settings: Settings) -> dict[str, bytes]:
    """The candidate pool's pictures by id; they are what is shown."""
    pool = Bundle.load(settings.bundles_dir / BUNDLE).pool
    return {id_: path.read_bytes() for id_, path in zip(pool.ids, pool.images or (), strict=True) if path is not None}


def _listen(url: str, key: str, session: str, heard: list[Message]) -> None:
    watch = Watch(url, key, session)  # ends when the session is archived
    heard.extend(watch)


def _for_people(outcome: Outcome) -> str:
    summary = outcome.summary()
    lines = [
        "",
        f"volumes    {summary['volumes_sent']} sent, {summary['volumes_processed']} processed",
        f"trials     {summary['trials']}, {summary['answers']} answers, {summary['reconstructions']} reconstructions",
        *(f"top-1      {stage:<8} {outcome.top1(stage)}" for stage in STAGES),
        f"possible   {outcome.ceiling}",
        f"control    {outcome.control()}: final answers against another trial's picture",
        "latency    " + "   ".join(f"{s} {v['p50']:.0f} / {v['p99']:.0f}" for s, v in summary["latency_ms"].items())
        + "   (ms, p50 / p99)",
        f"archive    {summary['archive']}",
    ]  # fmt: skip
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _quiet(text: str) -> None:
    del text
