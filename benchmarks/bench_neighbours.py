"""Whether one session slows another: acknowledged to beta of a quiet session, alone and beside heavy neighbours.

    python benchmarks/bench_neighbours.py [--only NAME ...] [--whole] [--no-history]

Bus, gateway and ingest run as processes of their own. The quiet session is a run of the demo's participant with the
demo's bundle, 16 trials, a volume every 0.25 s. Its neighbours send as fast as they are acknowledged, one kind at a
time: 2,000 trials at one onset; volumes of 512 x 512 x 60 int16; of 256 x 256 x 128 float32; noise in place of a brain
into a session with a bundle, whose place is searched for. The neighbour's console shares the machine's processors, too:
it takes its part as any other program would. Each kind has a quiet run before it, so that both meet the same machine.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import report

import mindsight  # noqa: F401 - first of all: makes torchvision importable
from mindsight import assets
from mindsight.bus import Bus
from mindsight.client import Console
from mindsight.encoders.demo import DemoEncoder
from mindsight.errors import MindsightError
from mindsight.journal.read import Journal
from mindsight.operations.supervisor import Supervisor
from mindsight.protocol import BetaReady, Message, VolumeProcessed
from mindsight.settings import Settings
from mindsight.simulator.demo import demo_visit
from mindsight.simulator.experiment import Design, RunPlan
from mindsight.volume import Volume
from service.keys import create_keys

EVERY_S, N_TRIALS, N_WHOLE, DEADLINE_S = 0.25, 16, 64, 120.0
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
ROOM_GB = 10.0  # of memory that a heavy neighbour must find, not to stop somebody else's work


@dataclass
class Told:
    """What became of a neighbour."""

    n_sent: int = 0
    refused: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Bench:
    """A service, and what its sessions scan."""

    url: str
    key: str
    folder: Path
    settings: Settings
    plan: RunPlan
    volumes: list[Volume] = field(repr=False)

    def console(self, name: str) -> Console:
        return Console(self.url, self.key, spool_dir=self.folder / f"spool-{name}", deadline_s=60.0)

    def quiet(self, name: str) -> tuple[list[float], list[float]]:
        """Milliseconds from a volume's acknowledgement until its beta is in the log, of one run; and until ingest took
        the volume, of all of its volumes.
        """
        with self.console(name) as console:
            console.open_session(console.enrol("demo"), session=name)
            plan = self.plan
            console.start_run(1, task="view", tr_s=plan.tr_s, n_volumes=plan.n_volumes)
            console.add_events(1, [{"trial": s.trial, "onset_s": s.onset_s, "duration_s": 3.0} for s in plan.shown])
            began_s = time.monotonic()
            for volume in self.volumes:
                time.sleep(max(0.0, began_s + volume.index * EVERY_S - time.monotonic()))
                console.send(volume)
            messages = self._until_processed(name, len(self.volumes))
            console.end_run(1)
            console.close_session()
        betas = [m for m in messages if isinstance(m, BetaReady) and m.stage != "final"]
        volumes = [m for m in messages if isinstance(m, VolumeProcessed)]
        return (
            [m.latency_ms.beta for m in betas if m.latency_ms.beta is not None],
            [m.latency_ms.queue for m in volumes if m.latency_ms.queue is not None],
        )

    def _until_processed(self, session: str, n: int) -> list[Message]:
        until_s = time.monotonic() + DEADLINE_S
        with closing(Bus.from_settings(self.settings)) as bus:
            while True:
                messages = list(Journal(bus, session).read_messages())
                if sum(isinstance(m, VolumeProcessed) for m in messages) >= n or time.monotonic() > until_s:
                    return messages
                time.sleep(0.5)

    def neighbour(self, name: str, kind: Kind, stop: threading.Event, told: Told) -> None:
        """Send volumes of a kind until told to stop; a refusal ends it."""
        try:
            with self.console(name) as console:
                console.open_session(console.enrol(kind.bundle), session=name)
                console.start_run(1, task="view", tr_s=1.5)
                if kind.events:
                    console.add_events(1, kind.events)
                for volume in kind.volumes(self.volumes):
                    if stop.is_set():
                        break
                    console.send(volume)
                    told.n_sent += 1
                console.end_run(1)
                console.close_session()
        except MindsightError as error:
            told.refused = f"{error.code}: {error}"
        except Exception as error:
            told.fault = repr(error)


@dataclass(frozen=True)
class Kind:
    """A heavy neighbour. volumes : what it sends, from what the quiet session sends"""

    volumes: Callable[[list[Volume]], Iterator[Volume]]
    bundle: str | None = None
    events: list[dict[str, float | int]] = field(default_factory=list)
    needs_gb: float = 0.0


def of_shape(shape: tuple[int, int, int], dtype: type) -> Callable[[list[Volume]], Iterator[Volume]]:
    def volumes(_: list[Volume]) -> Iterator[Volume]:
        noise = np.asfortranarray(np.random.default_rng(1).uniform(100, 1000, shape).astype(dtype))
        for index in range(10_000):
            yield Volume(noise, AFFINE, 1.5, 1, index)

    return volumes


def the_same(volumes: list[Volume]) -> Iterator[Volume]:
    for index in range(10_000):
        of = volumes[index % len(volumes)]
        yield Volume(of.data, of.affine, of.tr_s, 1, index)


def noise(volumes: list[Volume]) -> Iterator[Volume]:
    rng = np.random.default_rng(2)
    for index in range(10_000):
        of = volumes[0]
        data = rng.uniform(0, 1000, of.data.shape).astype(of.data.dtype)
        yield Volume(np.asfortranarray(data), of.affine, of.tr_s, 1, index)


KINDS = {
    "2,000 trials at one onset": Kind(
        the_same, "demo", [{"trial": n, "onset_s": 6.0, "duration_s": 3.0} for n in range(1, 2001)]
    ),
    "512 x 512 x 60 int16": Kind(of_shape((512, 512, 60), np.int16), needs_gb=ROOM_GB),
    "256 x 256 x 128 float32": Kind(of_shape((256, 256, 128), np.float32), needs_gb=ROOM_GB),
    "noise with a bundle": Kind(noise, "demo"),
}


def free_gb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def measure(bench: Bench, names: list[str]) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    rows, what = {}, {}
    for number, name in enumerate(names):
        kind = KINDS[name]
        if free_gb() < kind.needs_gb:
            what[name] = f"left out: {kind.needs_gb:g} GB of free memory expected, {free_gb():.1f} found"
            continue
        alone = bench.quiet(f"alone-{number}")
        stop, told = threading.Event(), Told()
        given = (f"heavy-{number}", kind, stop, told)
        thread = threading.Thread(target=bench.neighbour, args=given, daemon=True)
        thread.start()
        beside = bench.quiet(f"beside-{number}")
        stop.set()
        thread.join(DEADLINE_S)
        for when, (betas, waits) in ((f"alone, before {name}", alone), (f"beside {name}", beside)):
            rows[when] = {"n": len(betas), **report.spread(betas)}
            rows[f"{when}: until taken"] = {"n": len(waits), **report.spread(waits)}
        what[name] = told.refused or told.fault or f"{told.n_sent} volumes acknowledged"
    return rows, what


def main() -> None:
    parser = report.parser(__doc__, whole=f"{N_WHOLE} trials in place of {N_TRIALS}")
    parser.add_argument("--only", nargs="*", choices=list(KINDS), default=list(KINDS), help="these neighbours")
    given = parser.parse_args()
    began = report.machine()
    encoder = DemoEncoder.load(assets.ENCODER)
    n_trials = N_WHOLE if given.whole else N_TRIALS
    design = Design(trials_per_run=n_trials, repeats_per_run=1, tail_s=30.0)
    visit = demo_visit(encoder.encode, encoder.image_size, seed=9, n_runs=1, design=design)
    (plan,) = visit.plans
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", port=0, redis_url="embedded://")
        shutil.copytree(assets.BUNDLE, settings.bundles_dir / "demo")
        key = create_keys(settings.data_dir)["experimenter"]
        supervisor = Supervisor(settings, announce=lambda _: None, parts=("bus", "gateway", "ingest"))
        url = supervisor.start()
        try:
            bench = Bench(url, key, Path(folder), settings, plan, list(visit.volumes(plan)))
            rows, what = measure(bench, given.only)
        finally:
            supervisor.stop()
    report.print_table(f"quiet session, acknowledged to beta; a volume every {EVERY_S:g} s", rows)
    for name, became in what.items():
        print(f"{name}: {became}")
    report.finish("neighbours", given, began, ["numpy", "redis"], every_s=EVERY_S, ms=rows, neighbours=what)


if __name__ == "__main__":
    main()
