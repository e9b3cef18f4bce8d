"""What people who look at the brain cost a session's ingest: milliseconds per volume, with and without them.

    python benchmarks/bench_watched.py [--watchers 10] [--every 0.35] [--no-history]

Bus, gateway and ingest run as processes of their own. A recorded run without a bundle (74 x 74 x 36, 37,000 voxels, two
regions) is sent a volume every ``--every`` seconds, several times as fast as it was scanned. During every second block
of volumes the watchers do what a page does: each fetches the newest volume every two seconds and asks for the fit of
a voxel of its own. Blocks alternate, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import report

from mindsight.client import Console, Watch
from mindsight.operations.supervisor import Supervisor
from mindsight.protocol import VolumeProcessed
from mindsight.scanner import read_series
from mindsight.settings import Settings

BLOCK = 15  # volumes
LOOK_S = 2.0
RUN = report.DATA / "trio_run155"


@dataclass
class Watchers:
    """While ``on`` is set, each fetches what a page does. ``fetched`` : seconds that each request took"""

    url: str
    key: str
    session: str
    newest: int = 0
    on: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    fetched: dict[str, list[float]] = field(default_factory=lambda: {"volume": [], "voxel": []})

    def look(self, number: int) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        base = f"/v1/sessions/{self.session}/runs/1"
        with httpx.Client(base_url=self.url, headers=headers, timeout=10.0) as client:
            while not self.ended.is_set():
                if not self.on.wait(0.1):
                    continue
                for what, path in {
                    "volume": f"{base}/volumes/{self.newest}/view",
                    "voxel": f"{base}/voxel?x={30 + number % 14}&y={30 + number // 14}&z=18&trial=1",
                }.items():
                    began_s = time.monotonic()
                    if client.get(path).is_success:
                        self.fetched[what].append(time.monotonic() - began_s)
                self.ended.wait(LOOK_S)


def per_volume(n_watchers: int, every_s: float) -> tuple[list[VolumeProcessed], Watchers]:
    """All processed volumes of the run, in order."""
    volumes = list(read_series(RUN / "dcm"))
    keys: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        supervisor = Supervisor(
            Settings(data_dir=Path(folder), port=0, redis_url="embedded://"),
            announce=lambda line: keys.update([line.split(" key: ")]) if " key: " in line else None,
            parts=("bus", "gateway", "ingest"),
        )
        url = supervisor.start()
        try:
            with Console(url, keys["experimenter"], spool_dir=Path(folder) / "spool") as console:
                session = console.open_session(console.enrol())
                for name in ("lROI_1", "rROI_2"):
                    console.declare_roi(name, RUN / f"{name}.nii")
                console.start_run(1, task="bench", tr_s=volumes[0].tr_s, n_volumes=len(volumes))
                console.add_events(1, (RUN / "events.tsv").read_text())
                watchers = Watchers(url, keys["experimenter"], session)
                threads = [threading.Thread(target=watchers.look, args=(k,)) for k in range(n_watchers)]
                for thread in threads:
                    thread.start()
                for volume in volumes:
                    (watchers.on.set if is_watched(volume.index) else watchers.on.clear)()
                    console.send(volume)
                    watchers.newest = volume.index
                    time.sleep(every_s)
                watchers.ended.set()
                for thread in threads:
                    thread.join()
                console.end_run(1)
                console.close_session()
                messages = list(Watch(url, keys["experimenter"], session, until="session.closed"))
        finally:
            supervisor.stop()
    return [message for message in messages if isinstance(message, VolumeProcessed)], watchers


def is_watched(index: int) -> bool:
    return index // BLOCK % 2 == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=10)
    parser.add_argument("--every", type=float, default=0.35)
    parser.add_argument("--whole", action="store_true", help="nothing more is measured")
    parser.add_argument("--no-history", action="store_true", help="it has none")
    given = parser.parse_args()
    processed, watchers = per_volume(given.watchers, given.every)
    for watched in (False, True):
        of = [m.latency_ms for m in processed if is_watched(m.index) == watched and m.index >= BLOCK // 2]
        ingest = np.array([m.motion + m.glm + (m.estimate or 0.0) for m in of])
        queue = np.array([m.queue for m in of])
        who = f"{given.watchers:3d} watchers" if watched else "  nobody    "
        print(
            f"{who}: ingest {np.median(ingest):5.1f} ms median, {np.percentile(ingest, 95):6.1f} p95;"
            f" waiting for it {np.median(queue):4.1f} ms median, {np.percentile(queue, 95):6.1f} p95 (n {len(of)})"
        )
    for what, seconds in watchers.fetched.items():
        times = np.array(seconds) * 1e3
        print(f"{what}: {np.median(times):.0f} ms median, {np.percentile(times, 95):.0f} p95 (n {times.size})")


if __name__ == "__main__":
    main()
