"""The scanner's trigger pulses, as the stimulus computer stamps them → the third clock of each volume.

Knows nothing of how volumes come: it goes around any transport. Where a pulse is lost its volume has no trigger time;
none is made up.

A pulse comes when a volume begins, the volume one TR and the scanner's delay later. So pulses are queued and matched:
not one for one, as a lost or an extra pulse would shift all that follow, but by their spacing. Whatever the distance to
the last pulse, in whole TRs, so many volumes lie between; what is no whole number of TRs away is no pulse of this run.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from mindsight.errors import BadVolume
from mindsight.scanner.transports.contract import Clock, Item, Transport, Trouble
from mindsight.scanner.transports.tcp import Listener, Network, Wire
from mindsight.volume import Volume

MAX_QUEUED = 4096
MAX_LINE_BYTES = 64
MAX_POSITIONS = 2000
IDLE_S = 3600.0
TOLERANCE_TR = 0.2
PAUSE_TR = 5.5  # pulses before such a pause are those of something else
EARLIEST_TR = 0.8  # a volume cannot come sooner after its pulse
LATEST_S = 5.0  # beyond its TR
N_RESYNC = 3

_TIME = re.compile(rb"^\d{10,11}(\.\d{1,9})?$")


class Pulse(NamedTuple):
    """stamped_s : by the stimulus computer's clock. arrived_s : by ours. Both seconds since the Unix epoch."""

    stamped_s: float
    arrived_s: float


def parse_pulse(line: bytes, arrived_s: float) -> Pulse:
    """A line: seconds since the Unix epoch, or nothing, or one character, as trigger boxes send. Raises BadVolume."""
    text = line.strip()
    if len(text) <= 1:
        return Pulse(arrived_s, arrived_s)
    if not _TIME.match(text):
        raise BadVolume("expected a pulse per line: nothing, or its time in seconds since 1970", code="trigger.line")
    return Pulse(float(text), arrived_s)


@dataclass(slots=True)
class _Grid:
    """The pulses of one run, by their place: whole TRs since the first. shift : place of volume 0's pulse."""

    tr_s: float
    first_s: float  # arrival of the pulse at place 0
    last: int = 0
    last_s: float = 0.0
    shift: int = 0
    stamps: dict[int, float] = field(default_factory=dict)
    off: list[Pulse] = field(default_factory=list)
    n_extra: int = 0

    def add(self, pulse: Pulse) -> None:
        step = _whole_trs(pulse.stamped_s - self.last_s, self.tr_s)
        if step is None:
            self.off = [*self.off[1 - N_RESYNC :], pulse]
            self.n_extra += 1
            if not _are_a_train(self.off, self.tr_s):
                return
            # The clock was set: what seemed extra is the run. Places go by the arrival of the pulses then.
            step = max(1, round((pulse.arrived_s - self.first_s) / self.tr_s) - self.last)
        self.off.clear()
        self.last, self.last_s = self.last + step, pulse.stamped_s
        self.stamps[self.last] = pulse.stamped_s
        if len(self.stamps) > MAX_POSITIONS:
            del self.stamps[next(iter(self.stamps))]


class Pulses:
    """Pulses in; for each volume, in order, when its pulse came. No threads; it waits for nothing.

    skip : pulses before that of the first volume (dummy scans that send them)
    """

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._queue: deque[Pulse] = deque(maxlen=MAX_QUEUED)
        self._run: int | None = None
        self._grid: _Grid | None = None
        self._is_lost = False

    def add(self, pulse: Pulse) -> None:
        self._queue.append(pulse)

    def match(self, volume: Volume) -> tuple[float | None, list[Trouble]]:
        """The stamp of the volume's pulse, None where there is none, and what was wrong."""
        told: list[Trouble] = []
        if volume.run != self._run:
            self._run, self._grid, self._is_lost = volume.run, None, False
        if self._grid is None:
            self._grid = self._begun(volume, told)
        grid = self._grid
        while grid is not None and self._queue and self._queue[0].arrived_s <= (volume.arrived_s or 0.0):
            grid.add(self._queue.popleft())
        stamp = None if grid is None else grid.stamps.get(volume.index + grid.shift)
        if grid is not None and grid.n_extra:
            text = f"run {volume.run}: {grid.n_extra} trigger pulses are not a TR apart from the others; passed over"
            told.append(Trouble("trigger.extra", text, None, volume.run))
            grid.n_extra = 0
        if stamp is None and not self._is_lost:
            text = f"run {volume.run}: volume {volume.index} has no trigger pulse"
            told.append(Trouble("trigger.lost", text, volume.index, volume.run))
        self._is_lost = stamp is None  # said once for several in a row
        return stamp, told

    def _begun(self, volume: Volume, told: list[Trouble]) -> _Grid | None:
        """The grid that begins with the first pulse of the run; None where none has come."""
        arrived_s, tr_s = volume.arrived_s, volume.tr_s
        if arrived_s is None:
            return None
        before = [pulse for pulse in self._queue if pulse.arrived_s <= arrived_s]
        starts = [k for k in range(1, len(before)) if before[k][1] - before[k - 1][1] > PAUSE_TR * tr_s]
        train = before[starts[-1] if starts else 0 :]
        if not train:
            return None
        following = list(self._queue)[len(before) - len(train) :]
        first = next((k for k, one in enumerate(train) if _is_followed(one, following[k + 1 : k + 5], tr_s)), 0)
        for _ in range(len(before) - len(train) + first + 1):
            self._queue.popleft()
        pulse = train[first]
        grid = _Grid(tr_s, pulse.arrived_s, last_s=pulse.stamped_s, shift=self._skip, stamps={0: pulse.stamped_s})
        delay_s = arrived_s - pulse.arrived_s - (volume.index + grid.shift) * tr_s
        if not EARLIEST_TR * tr_s <= delay_s <= tr_s + LATEST_S:
            grid.shift = math.floor((arrived_s - pulse.arrived_s) / tr_s - EARLIEST_TR) - volume.index
            text = f"run {volume.run}: pulses and volumes do not begin together; matched by when they came"
            told.append(Trouble("trigger.shifted", text, None, volume.run))
        return grid


def _whole_trs(elapsed_s: float, tr_s: float) -> int | None:
    """How many TRs that is; None where it is no whole number of them, or none."""
    n = round(elapsed_s / tr_s)
    return n if n >= 1 and abs(elapsed_s - n * tr_s) <= TOLERANCE_TR * tr_s else None


def _is_followed(pulse: Pulse, others: Sequence[Pulse], tr_s: float) -> bool:
    return any(_whole_trs(other.stamped_s - pulse.stamped_s, tr_s) in (1, 2) for other in others)


def _are_a_train(pulses: Sequence[Pulse], tr_s: float) -> bool:
    steps = [_whole_trs(b.stamped_s - a.stamped_s, tr_s) for a, b in itertools.pairwise(pulses)]
    return len(pulses) == N_RESYNC and all(step == 1 for step in steps)


class Triggered:
    """A transport whose volumes have their trigger clock too, from pulses that come as lines of text over TCP.

    It listens from when it is made. What it says of pulses stands before the volume that it is about.

    Raises BadRequest where the address cannot be listened on.
    """

    def __init__(
        self,
        transport: Transport,
        host: str,
        port: int,
        *,
        clock: Clock,
        skip: int = 0,
        allow: Sequence[Network] = (),
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._pulses = Pulses(skip)
        self._lock = threading.Lock()
        self._troubles: deque[Trouble] = deque(maxlen=MAX_QUEUED)
        tell = self._troubles.append
        self._listener = Listener(host, port, self._serve, tell, clock.monotonic_s, allow=allow)

    @property
    def address(self) -> tuple[str, int]:
        """Where pulses are listened for."""
        return self._listener.address

    def items(self) -> Iterator[Item]:
        for item in self._transport.items():
            while self._troubles:
                yield self._troubles.popleft()
            if isinstance(item, Volume):
                with self._lock:
                    stamp, told = self._pulses.match(item)
                yield from told
                item = replace(item, trigger_s=stamp)
            yield item

    def close(self) -> None:
        self._listener.close()
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _serve(self, wire: Wire) -> None:
        while wire.wait(IDLE_S):
            line = wire.until(b"\n", MAX_LINE_BYTES, IDLE_S)
            pulse = parse_pulse(line, self._clock.wall_s())
            with self._lock:
                self._pulses.add(pulse)
