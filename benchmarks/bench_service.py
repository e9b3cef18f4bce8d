"""A volume's way through the running service, on a 2 mm grid: acknowledged, realigned, betas in the log.

    python benchmarks/bench_service.py [--volumes 192] [--every 0.45] [--whole] [--no-history]

Bus, gateway and ingest run as processes of their own; volumes go over HTTP by the SDK, and a watcher receives the
betas. The volumes (120 x 120 x 78) have known motion, forwards and backwards, each with new noise, and one jump of 2 mm
at two thirds of the run. A trial every 4 s, AR(1), 15,000 voxels, betas 7.5 s and 27.5 s after each onset. TR is 1.5 s;
volumes are sent every ``--every`` seconds, so that the run is short and no volume waits for another (``--whole``: at
the scanner's own pace, followed by the demo's visit for the way from beta to reconstruction).

"computing" is the time of one thread per volume: by the worker's own clock, and, in this process without a service, as
processor time. The floor is the necessary work, measured on the same machine in the same run: reading and hashing the
payload, the multiply-adds of motion correction and of AR(1) residuals at the rate of BLAS, and two small durable files.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import bench_motion
import nibabel as nib
import numpy as np
import report
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mindsight.client import Console, Watch
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.errors import DeadlineExceeded
from mindsight.glm import Event, Statistics
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.space import SubjectSpace
from mindsight.operations.supervisor import Supervisor
from mindsight.protocol import BetaReady, Message, VolumeProcessed, VolumeReceived
from mindsight.retrieval import Calibration, CandidatePool
from mindsight.settings import Settings
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume

TR_S, SOA_S, DURATION_S = 1.5, 4.0, 3.0
N_VOXELS = 15_000
NOISE = 5.0
N_CONFOUNDS_AND_DRIFTS = 6 + 6 + 1
DEADLINE_S = 60.0
ATTEMPT_GAP_S = 0.02
SETTLE_S = 3.0  # a session is opened some time before its first volume


@dataclass(frozen=True)
class Scans:
    """A run: volumes with known motion, there and back, each with noise of its own."""

    volumes: list[Volume]
    mask_XYZ: NDArray[np.bool_]
    n: int

    @classmethod
    def load(cls, folder: Path, n: int) -> Scans:
        image = nib.load(folder / "bold.nii.gz")
        data_XYZT = np.asarray(image.dataobj)
        volumes = [
            Volume(np.asfortranarray(data_XYZT[..., t]), image.affine, TR_S, 1, t) for t in range(data_XYZT.shape[3])
        ]
        inside = np.argwhere(np.load(folder / "truth.npz")["mask"])
        posterior = inside[np.argsort(inside[:, 1], kind="stable")[:N_VOXELS]]
        mask_XYZ = np.zeros(volumes[0].shape, np.bool_)
        mask_XYZ[tuple(posterior.T)] = True
        return cls(volumes, mask_XYZ, n)

    def __iter__(self) -> Iterator[Volume]:
        rng = np.random.default_rng(3)
        last = len(self.volumes) - 1
        there_and_back = [*range(1, last), *range(last, 1, -1)]  # volume 0 is the reference, whose noise it shares
        noise_XYZ = rng.normal(0.0, NOISE, self.volumes[0].shape).astype(np.int16, order="F")
        for index in range(self.n):
            still = self.volumes[there_and_back[index % len(there_and_back)]]
            data_XYZ = still.data + np.roll(noise_XYZ, rng.integers(1, 100, 3), axis=(0, 1, 2))
            if index >= 2 * self.n // 3:
                data_XYZ = np.roll(data_XYZ, 1, axis=1)
            yield replace(still, data=np.asfortranarray(data_XYZ.clip(0, None)), index=index)

    @property
    def onsets_s(self) -> NDArray[np.float64]:
        return np.arange(SOA_S, self.n * TR_S - SOA_S, SOA_S)


@dataclass
class Watched:
    """Messages that a watcher received, and when volumes were sent and betas received, by this machine's clock."""

    messages: list[Message] = field(default_factory=list)
    seen_ms: list[float] = field(default_factory=list)
    sent_t: float = 0.0

    def listen(self, watch: Watch) -> None:
        for message in watch:
            if isinstance(message, BetaReady) and message.stage != "final":
                self.seen_ms.append(1e3 * (time.time() - self.sent_t))
            self.messages.append(message)

    def wait(self, what: str, done: int) -> None:
        """Until ``done`` messages of a type have arrived."""
        until = time.monotonic() + DEADLINE_S
        while sum(message.type == what for message in self.messages) < done:
            if time.monotonic() > until:
                raise DeadlineExceeded(f"expected {done} x {what} within {DEADLINE_S:g} s", code="bench.deadline")
            time.sleep(ATTEMPT_GAP_S)


def make_bundle(folder: Path, scans: Scans) -> None:
    """A subject with 15,000 voxels; nothing is decoded here, so the decoder's weights are zero."""
    rng = np.random.default_rng(0)
    Bundle(
        subject="bench",
        created="2026-01-01T00:00:00Z",
        options=IngestOptions(),
        space=SubjectSpace(scans.volumes[0], scans.mask_XYZ),
        statistics=Statistics(np.zeros(N_VOXELS, np.float32), np.ones(N_VOXELS, np.float32), 100),
        calibration=Calibration(temperature=1.0, null_confidence=0.5, log_loss=0.0, n=2),
        pool=CandidatePool(("a", "b"), rng.normal(size=(2, 8)).astype(np.float32)),
        decoder=LinearDecoder(np.zeros((N_VOXELS, 8), np.float32), np.zeros(8, np.float32), (8,), 1.0),
    ).save(folder)


def through_service(scans: Scans, every_s: float) -> Watched:
    """One session of one run, a volume every ``every_s`` seconds."""
    watched = Watched()
    keys: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), port=0, redis_url="embedded://")
        settings.bundles_dir.mkdir(parents=True)
        make_bundle(settings.bundles_dir / "bench", scans)
        supervisor = Supervisor(
            settings,
            announce=lambda line: keys.update([line.split(" key: ")]) if " key: " in line else None,
            parts=("bus", "gateway", "ingest"),
        )
        url = supervisor.start()
        try:
            key = keys["experimenter"]
            with Console(url, key, spool_dir=Path(folder) / "spool") as console:
                session = console.open_session(console.enrol("bench"))
                watch = Watch(url, key, session)
                threading.Thread(target=watched.listen, args=(watch,), daemon=True).start()
                time.sleep(SETTLE_S)
                console.start_run(1, task="bench", tr_s=TR_S, n_volumes=scans.n)
                for trial, onset_s in enumerate(scans.onsets_s, 1):
                    console.add_event(1, onset_s=float(onset_s), duration_s=DURATION_S, trial=trial)
                began_s = time.monotonic()
                for volume in scans:
                    time.sleep(max(0.0, began_s + volume.index * every_s - time.monotonic()))
                    watched.sent_t = time.time()
                    console.send(volume)
                watched.wait("volume.processed", scans.n)
                console.end_run(1)
                n_betas = 2 * len(scans.onsets_s)  # the last trials have no revised beta, but all have a final one
                watched.wait("beta.ready", n_betas)
                time.sleep(1.0)
                watch.close()
        finally:
            supervisor.stop()
    return watched


def computed(scans: Scans) -> dict[str, list[float]]:
    """Processor milliseconds of each volume in this process: motion, glm, beta, and all of them."""
    session = IngestSession(IngestOptions(), SubjectSpace(scans.volumes[0], scans.mask_XYZ), clock=time.process_time)
    session.start_run(1, TR_S, scans.n)
    for trial, onset_s in enumerate(scans.onsets_s, 1):
        session.add_event(1, Event(float(onset_s), DURATION_S, trial))
    stages: dict[str, list[float]] = {"motion": [], "glm": [], "beta": []}
    for volume in scans:
        output = session.push(volume)
        for stage, value in output.timings_ms.items():
            stages[stage].append(value)
    stages["computing"] = np.sum(list(stages.values()), axis=0).tolist()
    stages["beta"] = [value for value in stages["beta"] if value > 0.1]  # of volumes that bring one
    return stages


def floors(scans: Scans, truth: Path, folder: Path) -> dict[str, float]:
    """Median milliseconds of the necessary work for a volume with one beta."""
    payloads = [encode_volume(volume) for volume in replace(scans, n=20)]
    paths = [folder / f"payload-{i}" for i in range(len(payloads))]
    for path, payload in zip(paths, payloads, strict=True):
        path.write_bytes(payload)
    read, hashed = report.Clock(), report.Clock()
    for path in paths:
        payload = read.time(path.read_bytes)
        hashed.time(lambda payload=payload: hashlib.sha256(payload).digest())
    beta = report.durable([bytes(4 * N_VOXELS)] * 20, folder)
    statistics = report.durable([bytes(8 * N_VOXELS)] * 20, folder)
    received = report.durable(payloads, folder)
    with threadpool_limits(1):
        per_multiply_add = report.blas_ms_per_multiply_add()
        motion_ms = sum(bench_motion.floor_ms(bench_motion.Course.given(truth)).values())
    residuals = 2 * N_VOXELS * scans.n / 2 * (N_CONFOUNDS_AND_DRIFTS + 2)

    def median(clock: report.Clock) -> float:
        return float(np.median(clock.wall_ms))

    found = {
        "read the payload": median(read),
        "hash the payload": median(hashed),
        "multiply-adds of motion": motion_ms,
        "multiply-adds of AR(1)": residuals * per_multiply_add,
        "beta and statistics durable": median(beta) + median(statistics),
    }
    found["payload in, betas out"] = median(read) + median(hashed) + median(beta) + median(statistics)
    found["computing"] = found["multiply-adds of motion"] + found["multiply-adds of AR(1)"]
    found["acknowledged to beta"] = found["payload in, betas out"] + found["computing"]
    found["received to acknowledged"] = median(hashed) + median(received)
    return {name: round(value, 3) for name, value in found.items()}


def watched_figures(watched: Watched) -> dict[str, dict[str, float]]:
    """Per stage, of the messages' own times."""
    stages: dict[str, list[float]] = {}

    def add(stage: str, value: float | None) -> None:
        if value is not None:
            stages.setdefault(stage, []).append(value)

    last_beta: float | None = None  # of the current volume, whose betas are reported before the volume itself
    for message in watched.messages:
        if isinstance(message, VolumeReceived):
            add("received to acknowledged", message.latency_ms.receive)
        elif isinstance(message, VolumeProcessed):
            took = message.latency_ms
            add("acknowledged to taken", took.queue)
            add("worker: motion", took.motion)
            add("worker: glm", took.glm)
            add("worker: betas", took.estimate)
            computing = (took.motion or 0.0) + (took.glm or 0.0) + (took.estimate or 0.0)
            add("worker: computing", computing)
            if last_beta is not None:
                add("worker: payload in, betas out", last_beta - (took.queue or 0.0) - computing)
            last_beta = None
        elif isinstance(message, BetaReady):
            stage = "end of run to final betas" if message.stage == "final" else f"acknowledged to {message.stage} beta"
            add(stage, message.latency_ms.beta)
            if message.stage != "final":
                last_beta = message.latency_ms.beta
                add("acknowledged to beta", last_beta)
    stages["sent to beta at a watcher"] = watched.seen_ms
    return {name: {**report.spread(values), "n": len(values)} for name, values in sorted(stages.items())}


def demo() -> dict[str, dict[str, float]]:
    """Latency per stage of the demo's visit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mindsight.cli", "demo", "--once", "--data-dir", folder]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    latency_ms = json.loads(finished.stdout.splitlines()[-1])["latency_ms"]
    return {f"demo: {stage}": {"median": value["p50"], "p99": value["p99"]} for stage, value in latency_ms.items()}


def main() -> None:
    parser = report.parser(__doc__, whole="at the scanner's own pace (5 minutes), and the demo's visit")
    parser.add_argument("--volumes", type=int, default=192)
    parser.add_argument("--every", type=float, default=0.45, help="seconds from volume to volume")
    parser.add_argument("--truth", type=Path, default=report.DATA / "motion_truth" / "typical")
    given = parser.parse_args()
    if not given.truth.is_dir():
        print("bench_service: volumes with known motion are not there; name their folder with --truth", file=sys.stderr)
        return
    began = report.machine()
    scans = Scans.load(given.truth, given.volumes)
    every_s = TR_S if given.whole else given.every
    watched = through_service(scans, every_s)
    service = watched_figures(watched)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        floor_ms = floors(scans, given.truth, Path(folder))
        cpu = {stage: {**report.spread(ms), "n": len(ms)} for stage, ms in computed(scans).items()}
    for name, row in (*service.items(), *((f"processor: {stage}", row) for stage, row in cpu.items())):
        floor = floor_ms.get(name.partition(": ")[2] or name)
        if floor is not None:
            row["floor"] = floor
    rows = {**service, **{f"processor: {stage}": row for stage, row in cpu.items()}}
    seen = demo() if given.whole else {}
    report.print_table(f"{scans.n} volumes, one every {every_s:g} s; {N_VOXELS} voxels, AR(1)", rows | seen)
    print("floor, ms: " + "; ".join(f"{name} {value:.2f}" for name, value in floor_ms.items()))
    report.finish(
        "service",
        given,
        began,
        ["numpy", "numba", "redis", "fastapi", "uvicorn"],
        volumes=scans.n,
        every_s=every_s,
        voxels=N_VOXELS,
        ms=rows | seen,
        floor_ms=floor_ms,
    )


if __name__ == "__main__":
    main()
