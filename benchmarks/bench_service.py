"""A volume's way through the running service: acknowledged → beta, and beta → retrieval.

    python benchmarks/bench_service.py RUN [--speed 5] [--no-history]

RUN is a recorded run folder (``dcm/`` or ``bold.nii.gz``). It is streamed over HTTP into real processes at ``speed``
times its own pace, with an event every 4 s, so that many volumes complete a beta. Then the demo's visit is streamed as
fast as the service takes it, for the way from beta to retrieval and to the picture.

The floor beside the first figure is what must be done at least: read the payload once, hash it twice (gateway and
worker), fsync it once; measured on the same machine in the same run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mindsight.bus import Bus, Log
from mindsight.client import Console
from mindsight.demo import latencies
from mindsight.protocol import BetaReady, Message, VolumeProcessed, parse_message
from mindsight.protocol.volume_codec import encode_volume
from mindsight.scanner import open_run
from mindsight.settings import Settings
from mindsight.supervisor import Supervisor

HISTORY = Path(__file__).parent / "history" / "service.json"
SOA_S = 4.0
DEADLINE_S = 120.0


def stream(run: Path, speed: float) -> tuple[list[Message], float]:
    """The session's messages, and the floor in milliseconds per volume."""
    recorded = open_run(run)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), port=0, redis_url="embedded://")
        keys: dict[str, str] = {}
        supervisor = Supervisor(
            settings,
            announce=lambda line: keys.update([line.split(" key: ")]) if " key: " in line else None,
            parts=("bus", "gateway", "ingest"),
        )
        url = supervisor.start()
        try:
            with Console(url, keys["experimenter"], spool_dir=Path(folder) / "spool") as console:
                session = console.open_session(console.enrol())
                console.start_run(1, task="bench", tr_s=recorded.tr_s, n_volumes=recorded.n_volumes)
                onsets_s = np.arange(4.0, recorded.n_volumes * recorded.tr_s - SOA_S, SOA_S)
                for trial, onset_s in enumerate(onsets_s, 1):
                    console.add_event(1, onset_s=float(onset_s), duration_s=3.0, trial=trial)
                began_s = time.monotonic()
                payloads = []
                for volume in recorded.volumes():
                    wait_s = began_s + volume.index * recorded.tr_s / speed - time.monotonic()
                    time.sleep(max(0.0, wait_s))
                    console.send(volume)
                    payloads.append(encode_volume(volume))
            bus = Bus.from_settings(settings)
            until = time.monotonic() + DEADLINE_S
            while time.monotonic() < until:
                messages = read_all(Log(bus, session, "messages"))
                if sum(isinstance(m, VolumeProcessed) for m in messages) == recorded.n_volumes:
                    break
                time.sleep(0.2)
            return messages, floor_ms(payloads[: min(30, len(payloads))], Path(folder))
        finally:
            supervisor.stop()


def read_all(log: Log) -> list[Message]:
    found: list[Message] = []
    after = 0
    while page := log.read(after):
        found += [parse_message(entry.payload, id=entry.seq) for entry in page]
        after = page[-1].seq
    return found


def floor_ms(payloads: list[bytes], folder: Path) -> float:
    """Median of hashing a payload twice and making it durable once."""
    taken = []
    for i, payload in enumerate(payloads):
        began_s = time.perf_counter()
        hashlib.sha256(payload).digest()
        hashlib.sha256(payload).digest()
        with (folder / f"floor-{i}").open("wb") as file:
            file.write(payload)
            os.fsync(file.fileno())
        taken.append(1e3 * (time.perf_counter() - began_s))
    return float(np.median(taken))


def demo() -> dict[str, dict[str, float]]:
    """Latency per stage of the demo's visit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mindsight.cli", "demo", "--once", "--data-dir", folder]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        latency_ms: dict[str, dict[str, float]] = json.loads(finished.stdout.splitlines()[-1])["latency_ms"]
        return latency_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path(__file__).parents[2] / "shared/data/trio_run155")
    parser.add_argument("--speed", type=float, default=5.0)
    parser.add_argument("--no-history", action="store_true")
    given = parser.parse_args()
    if not given.run.is_dir():
        print("bench_service: no recorded run there; name one", file=sys.stderr)
        return
    load = os.getloadavg()[0]
    messages, floor = stream(given.run, given.speed)
    n_betas = sum(isinstance(message, BetaReady) for message in messages)
    ingest = latencies(messages)
    visit = demo()
    print(f"load before: {load:.1f} on {os.cpu_count()} cores; {n_betas} betas; ms, p50 / p99")
    for stage, value in ingest.items():
        print(f"  run   {stage:<10} {value['p50']:8.1f} {value['p99']:8.1f}")
    ratio = ingest["beta"]["p50"] / floor
    print(f"  floor {'payload':<10} {floor:8.1f}            ack -> beta is {ratio:.1f} x the floor")
    for stage, value in visit.items():
        print(f"  demo  {stage:<10} {value['p50']:8.1f} {value['p99']:8.1f}")
    if not given.no_history:
        record = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "load": round(load, 2),
            "speed": given.speed,
            "run": ingest,
            "floor_ms": round(floor, 2),
            "demo": visit,
        }
        HISTORY.parent.mkdir(exist_ok=True)
        history = json.loads(HISTORY.read_text()) if HISTORY.exists() else []
        HISTORY.write_text(json.dumps([*history, record], indent=1) + "\n")


if __name__ == "__main__":
    main()
