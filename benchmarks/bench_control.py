"""1,000 sessions' control traffic on one bus server: what it costs the server, and how old a volume's message is.

    python benchmarks/bench_control.py [--sessions 100 300 1000] [--seconds 6] [--whole] [--no-history]

Payloads are in the blob store: over the bus go references, messages, jobs and leases. All of them are written here by
the service's own code, in processes of their own that compute nothing. A gateway logs a volume of each session per TR
of 1 s, and every 8th time a trial. Two ingest workers, as ``mindsight serve`` runs them, look for sessions and renew
their leases; each of their sessions is followed by a thread with connections of its own, in place of a process. An
inference worker takes a beta of each trial and logs a result. Volumes are spread over the TR and come when they are
due, whatever became of those before: ages are from that moment.

The floor is as many plain SETs of 200 bytes a second on the same server: their round trip, and the server's processor
time for one. Beside it, on a quiet server: what one look of one more worker costs, at sessions that all are led by
others, the same after thousands of sessions that are over; and what an hour of one session adds to the server's memory.

Not in it: payloads, computing and HTTP; those who watch (``bench_fan_out.py``), pictures and archives; a network, a
replica, ``appendfsync always``. The drivers are Python on the same machine, on a client that costs them less than
redis-py (``lean_bus.py``). Where they are saturated all the same it is said: ages are then theirs. Where they are not,
what the server would carry alone is extrapolated from its processor time.
``--whole``: each number of sessions for two minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import report
from control_drivers import TR_S, Follower, Leading, decode, decode_next, lead, log_volume, send, set_plainly
from lean_bus import LeanBus

from mindsight.bus import Bus, EmbeddedServer, Lease
from mindsight.journal.declare import Recorder
from mindsight.journal.read import entries
from mindsight.journal.sessions import SessionRecord, Sessions
from mindsight.processes import process_name
from mindsight.protocol.inputs import StartRun
from mindsight.settings import Settings
from workers.ingest.worker import LEASE_S, LOOK_S

WORKERS = 2
START_S, LEAD_S, WARM_S, LATE_S, ARRIVE_S = 120.0, 1.5, 3.0, 10.0, 1.0
FLOOR_S = 2.0
LOOKS = 10
PAST = 10_000  # sessions that are over: ten a day for three years
HOUR_VOLUMES = 3600 / TR_S
SESSIONS_PER_CORE = 20  # of ingest, at 2 mm and 15,000 voxels (docs/deploy.md)
BUSY_SHARE, LATE_MS = 0.9, 50.0  # above which the drivers are saturated
REQUESTS = ("evalsha", "eval", "xread", "xreadgroup", "xautoclaim", "xpending", "hmget", "smembers")  # not in scripts

spawned = multiprocessing.get_context("spawn")


@dataclass
class Driver:
    """A process of ours, and what it tells."""

    process: Any
    told: Connection

    def busy_s(self) -> float:
        """Its processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def hear(self) -> Any:
        if not self.told.poll(START_S):
            raise RuntimeError(f"{self.process.name} did not answer within {START_S:g} s")
        return self.told.recv()


@contextmanager
def driver(target: Callable[..., None], *given: Any) -> Iterator[Driver]:
    ours, theirs = spawned.Pipe()
    process = spawned.Process(target=target, args=(*given, theirs), name=target.__name__, daemon=True)
    process.start()
    theirs.close()
    try:
        yield Driver(process, ours)
    finally:
        process.join(ARRIVE_S)
        process.terminate()
        process.join()


def told_by_server(bus: Bus) -> dict[str, float]:
    """Its counters: processor seconds, bytes, and how often each command was called (``calls_...``)."""
    found = {}
    for line in bus.command("INFO", "all").decode().splitlines():
        name, _, value = line.partition(":")
        if name.startswith("cmdstat_"):
            found[name.replace("cmdstat_", "calls_")] = float(value.partition(",")[0].removeprefix("calls="))
        elif value.replace(".", "", 1).isdigit():
            found[name] = float(value)
    found["busy_s"] = found["used_cpu_user"] + found["used_cpu_sys"]
    found["n_requests"] = sum(found.get(f"calls_{name}", 0.0) for name in REQUESTS)
    found["at_s"] = time.monotonic()
    return found


def open_all(bus: Bus, names: Sequence[str]) -> None:
    for name in names:
        now = time.time()
        recorder = Recorder(bus, name, time.time)
        recorder.open(SessionRecord(session=name, subject=f"subject-{name}", bundle="control", opened_t=now))
        recorder.start_run(StartRun(t=now, run=1, task="view", tr_s=TR_S))


def traffic(settings: Settings, bus: Bus, names: Sequence[str], seconds: float) -> dict[str, Any]:
    """All sessions scan at once: ages in ms, what the server did in a second, and how busy everyone was."""
    led, stop = spawned.Value("q", 0), spawned.Event()
    with ExitStack() as stack:
        workers = [stack.enter_context(driver(lead, settings, led, stop)) for _ in range(WORKERS)]
        inference = stack.enter_context(driver(decode, settings, stop))
        stack.callback(stop.set)
        until_s = time.monotonic() + START_S
        while led.value < len(names):
            if time.monotonic() > until_s:
                raise RuntimeError(f"{led.value} of {len(names)} sessions are led after {START_S:g} s")
            time.sleep(0.1)
        start_t, n_volumes = time.time() + LEAD_S, round((WARM_S + seconds) / TR_S)
        until_t = start_t + n_volumes * TR_S + LATE_S
        gateway = stack.enter_context(driver(send, settings, names, start_t, n_volumes, until_t))
        drivers = [*workers, inference, gateway]
        began_t = start_t + WARM_S
        time.sleep(began_t - time.time())
        before, busy_s = told_by_server(bus), [one.busy_s() for one in drivers]
        time.sleep(max(0.0, began_t + seconds - time.time()))
        after, busy_s = told_by_server(bus), [one.busy_s() - s for one, s in zip(drivers, busy_s, strict=True)]
        sent = gateway.hear()
        time.sleep(ARRIVE_S)
        stop.set()
        heard = [sent, inference.hear(), *(one.hear() for one in workers)]
    took_s = after["at_s"] - before["at_s"]
    taken = [one for one in sent["taken"] if one[0] >= began_t]
    ages = [(due, at) for worker in heard[2:] for due, at in worker["ages"] if due >= began_t]
    problems = [problem for one in heard[2:] for problem in one["problems"]]
    if len(ages) < (n_due := len(names) * round(seconds / TR_S)):
        problems.append(f"{n_due - len(ages)} of {n_due} volumes have no message {LATE_S:g} s after the last was due")
    ms = {
        "due to taken up": [at - due for due, at, _ in taken],
        "due to logged": [at - due for due, _, at in taken],
        "due to message": [at - due for due, at in ages],
        "beta to result": [at - logged for logged, at in heard[1]["decoded"] if logged >= began_t],
    }
    change = {name: (after[name] - before.get(name, 0.0)) / took_s for name in after}
    return {
        "ms": {name: report.spread([1e3 * s for s in of]) | {"n": len(of)} for name, of in ms.items() if of},
        "requests_per_s": round(change["n_requests"], 1),
        "commands_per_s": round(change["total_commands_processed"], 1),
        "in_mb_per_s": round(change["total_net_input_bytes"] / 1e6, 3),
        "out_mb_per_s": round(change["total_net_output_bytes"] / 1e6, 3),
        "server_busy": round(change["busy_s"], 4),
        "server_us_per_request": round(1e6 * change["busy_s"] / change["n_requests"], 2),
        "looks_per_s": round(change["calls_hmget"], 2),
        "server_mb": round(after["used_memory"] / 1e6, 1),
        "connections": round(after["connected_clients"]),
        "drivers_busy": [round(s / took_s, 2) for s in busy_s],
        "problems": problems[:5],
    }


def floor(settings: Settings, bus: Bus, per_s: float, seconds: float) -> dict[str, Any]:
    """As many plain SETs a second, or as many as these processes can."""
    n = WORKERS + 1
    with ExitStack() as stack:
        drivers = [stack.enter_context(driver(set_plainly, settings, per_s / n, seconds)) for _ in range(n)]
        for one in drivers:
            one.hear()
        before = told_by_server(bus)
        for one in drivers:
            one.told.send("go")
        took_ms = [ms for one in drivers for ms in one.hear()]
        after = told_by_server(bus)
    busy_s = after["busy_s"] - before["busy_s"]
    return {
        "ms": report.spread(took_ms) | {"n": len(took_ms)},
        "per_s": round(len(took_ms) / (after["at_s"] - before["at_s"]), 1),
        "server_us": round(1e6 * busy_s / len(took_ms), 2),
    }


def look(settings: Settings, bus: Bus, names: Sequence[str]) -> dict[str, float]:
    """What one look of one more worker costs it, and the server, when all sessions are led by others."""
    for name in names:  # their workers have ended
        Lease.acquire(bus, name, process_name(), 10 * LEASE_S, lambda _: True)
    one_more = Leading(settings, bus, threading.Event(), multiprocessing.get_context("forkserver"))
    before, clock = told_by_server(bus), report.Clock()
    for _ in range(LOOKS):
        clock.time(one_more.look)
    after = told_by_server(bus)
    return {
        "ms": clock.figures()["median"],
        "server_ms": round(1e3 * (after["busy_s"] - before["busy_s"]) / LOOKS, 3),
        "requests": round((after["n_requests"] - before["n_requests"]) / LOOKS),
        "out_kb": round((after["total_net_output_bytes"] - before["total_net_output_bytes"]) / LOOKS / 1e3, 1),
    }


def pass_by(bus: Bus, n: int) -> None:
    """So many sessions, opened, archived and sealed."""
    sessions = Sessions(bus)
    for name in (f"control-past-{i:05}" for i in range(n)):
        sessions.create(SessionRecord(session=name, subject=f"subject-{name}", bundle="control", opened_t=time.time()))
        sessions.advance(name, "archived")
        sessions.settle(name)


def hour_mb(bus: Bus, n_volumes: int) -> float:
    """What an hour of one session adds to the server's memory, from so many of its volumes, written at once."""
    name = "control-hour-0000"
    open_all(bus, [name])
    lease = Lease.acquire(bus, name, process_name(), 10 * LEASE_S)
    assert lease is not None
    follower, before = Follower(lease, bus, []), told_by_server(bus)
    for index in range(n_volumes):
        log_volume(bus, name, index, time.time())
    for entry in entries(follower.inputs):
        follower.take(entry)
    while decode_next(bus, 0.01) is not None:
        pass
    grown = told_by_server(bus)["used_memory"] - before["used_memory"]
    return round(grown * HOUR_VOLUMES / n_volumes / 1e6, 2)


def measured(n: int, seconds: float) -> dict[str, Any]:
    """All figures of one number of sessions, on a server of its own."""
    names = [f"control-{i:04}" for i in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), redis_url="embedded://")
        with EmbeddedServer(settings), closing(LeanBus.from_settings(settings)) as bus:
            open_all(bus, names)
            found = traffic(settings, bus, names, seconds)
            found["floor"] = floor(settings, bus, found["requests_per_s"], min(FLOOR_S, seconds))
            found["look"] = look(settings, bus, names)
            pass_by(bus, PAST)
            found["look_past"] = look(settings, bus, names)
            found["hour_mb"] = hour_mb(bus, round(min(HOUR_VOLUMES, 200 * seconds)))
    return found | {"saturated": is_saturated(found), "carries": carries(n, found)}


def is_saturated(found: dict[str, Any]) -> bool:
    """Whether ages are the drivers': they have no processor left, or take volumes up late."""
    busy, cores = found["drivers_busy"], os.cpu_count() or 1
    late: bool = found["ms"]["due to taken up"]["p99"] > LATE_MS
    return late or max(busy) > BUSY_SHARE or sum(busy) + found["server_busy"] > BUSY_SHARE * cores


def carries(n: int, found: dict[str, Any]) -> dict[str, int]:
    """Extrapolated: the sessions at which the server's one core is full.

    A session costs what it cost here. Beside that each ingest worker asks, every LOOK_S, for each session that another
    one leads.
    """
    of_look_s = found["look"]["server_ms"] / 1e3
    asked_s = of_look_s / n / LOOK_S  # for one session by one worker, in a second
    session_s = max(0.0, found["server_busy"] - found["looks_per_s"] * of_look_s * (1 - 1 / WORKERS)) / n
    square, linear = asked_s / SESSIONS_PER_CORE, session_s - asked_s
    many = (-linear + (linear**2 + 4 * square) ** 0.5) / (2 * square)
    return {"2 ingest workers": round(1 / (session_s + asked_s)), f"1 for {SESSIONS_PER_CORE} sessions": round(many)}


def told(n: int, found: dict[str, Any]) -> Iterator[str]:
    """What the table does not show."""
    plain, one_look, past = found["floor"], found["look"], found["look_past"]
    yield (
        f"{n} sessions: {found['requests_per_s']:.0f} requests a second ({found['commands_per_s']:.0f} commands with"
        f" those in scripts), {found['in_mb_per_s']:.2f} MB/s in, {found['out_mb_per_s']:.2f} MB/s out"
    )
    of_request, of_set = found["server_us_per_request"], plain["server_us"]
    yield (
        f"  server: {100 * found['server_busy']:.1f} % of one processor, {of_request:.1f} µs a request;"
        f" {plain['per_s']:.0f} plain SETs a second: {of_set:.1f} µs each (x {of_request / of_set:.1f})"
    )
    yield (
        f"  {found['connections']} connections, {found['server_mb']:.0f} MB of memory; an hour of one session adds"
        f" {found['hour_mb']:.2f} MB"
    )
    yield (
        f"  a look of one more worker: {one_look['requests']:.0f} requests, {one_look['out_kb']:.0f} kB,"
        f" {one_look['ms']:.1f} ms, of them {one_look['server_ms']:.2f} ms of the server's processor; after {PAST:,}"
        f" sessions that are over {past['ms']:.1f} ms (x {past['ms'] / one_look['ms']:.2f}), {past['out_kb']:.0f} kB"
    )
    busy = ", ".join(f"{100 * share:.0f}" for share in found["drivers_busy"])
    state = "SATURATED or kept waiting: ages are theirs, not the server's" if found["saturated"] else "not saturated"
    yield f"  drivers (ingest, ingest, inference, gateway): {busy} % of one processor; {state}"
    if not found["saturated"]:
        limits = "; ".join(f"{number} with {which}" for which, number in found["carries"].items())
        yield f"  extrapolated from processor time, sessions that fill the server's one core: {limits}"


def main() -> None:
    parser = report.parser(__doc__, whole="each number of sessions for two minutes")
    parser.add_argument("--sessions", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each number of sessions")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a session has two connections
    began = report.machine()
    seconds = 120.0 if given.whole else given.seconds
    figures = {str(n): measured(n, seconds) for n in given.sessions}
    rows = {
        f"{n} sessions: {what}": row | {"floor": found["floor"]["ms"]["median"]}
        for n, found in figures.items()
        for what, row in found["ms"].items()
    }
    report.print_table(f"age, a volume of each session every {TR_S:g} s; floor: a plain SET", rows)
    for n, found in figures.items():
        for line in told(int(n), found):
            print(line)
        for problem in found["problems"]:
            print(f"  problem: {problem}", file=sys.stderr)
    report.finish("control", given, began, ["redis"], seconds=seconds, workers=WORKERS, sessions=figures)


if __name__ == "__main__":
    main()
