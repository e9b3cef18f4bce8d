"""The scanner's trigger pulses, as the stimulus computer stamps them → the third clock of each volume.

Knows nothing of how volumes arrive: it wraps any transport. If a pulse is lost, its volume has no trigger time; none is
made up.

A pulse arrives when a volume begins; the volume itself arrives one TR and the scanner's delay later. So pulses are
queued and matched by their spacing: one for one, a lost or an extra pulse would shift all that follow. The distance to
the previous pulse in whole TRs is the number of volumes between; a pulse that is not whole TRs away does not belong to
the run.

Some sequences send several pulses per TR, one per slice or excitation. Then the first of each TR is taken: the pulse
that is whole TRs after the train's first, within a tolerance given by the spacing. If they do not fit into a TR, none
is taken.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from typing_extensions import Self

from mindsight.errors import BadVolume
from mindsight.scanner.assembly.items import Item, TransportWarning
from mindsight.scanner.transports.contract import Clock, Transport
from mindsight.scanner.transports.tcp import Listener, Network, Wire
from mindsight.volume import Volume

MAX_QUEUED = 4096
MAX_LINE_BYTES = 64
MAX_POSITIONS = 2000
IDLE_S = 3600.0
TOLERANCE_TR = 0.2
PAUSE_TR = 5.5  # pulses before such a pause do not belong to the run
EARLIEST_TR = 0.8  # a volume cannot arrive sooner after its pulse
LATEST_S = 5.0  # beyond its TR
N_RESYNC = 3
MAX_LOST_WARNINGS = 3  # per run: some sites send a pulse for every second volume only
MAX_SPACING_TR = 0.7  # pulses closer than this arrive several times per TR
MAX_OFF_TR = 0.04

_TIME = re.compile(rb"^\d{10,11}(\.\d{1,9})?$")


class Pulse(NamedTuple):
    """A trigger pulse, in seconds since the Unix epoch.

    stamped_s : by the stimulus computer's clock
    arrived_s : by this machine's clock
    """

    stamped_s: float
    arrived_s: float


def parse_pulse(line: bytes, arrived_s: float) -> Pulse:
    """A pulse from a line: seconds since the Unix epoch, nothing, or one character, as trigger boxes send.

    Raises BadVolume.
    """
    text = line.strip()
    if len(text) <= 1:
        return Pulse(arrived_s, arrived_s)
    if not _TIME.match(text):
        raise BadVolume("expected a pulse per line: nothing, or its time in seconds since 1970", code="trigger.line")
    return Pulse(float(text), arrived_s)


@dataclass(slots=True)
class _Grid:
    """The pulses of one run by position: whole TRs since the first.

    first_s : when the pulse at position 0 arrived
    several : several pulses arrive per TR
    shift : position of volume 0's pulse
    """

    tr_s: float
    first_s: float
    tolerance_s: float
    several: bool
    last: int = 0
    last_s: float = 0.0
    shift: int = 0
    stamps: dict[int, float] = field(default_factory=dict)
    off: list[Pulse] = field(default_factory=list)
    n_extra: int = 0

    def add(self, pulse: Pulse) -> None:
        step = _whole_trs(pulse.stamped_s - self.last_s, self.tr_s, self.tolerance_s)
        if step is None and self.several:
            return
        if step is None:
            self.off = [*self.off[1 - N_RESYNC :], pulse]
            self.n_extra += 1
            if not _are_a_train(self.off, self.tr_s):
                return
            # The clock was adjusted: what seemed extra is the run. Positions then follow the arrival of the pulses.
            step = max(1, round((pulse.arrived_s - self.first_s) / self.tr_s) - self.last)
        self.off.clear()
        self.last, self.last_s = self.last + step, pulse.stamped_s
        self.stamps[self.last] = pulse.stamped_s
        if len(self.stamps) > MAX_POSITIONS:
            del self.stamps[next(iter(self.stamps))]


class Pulses:
    """Pulses in; for each volume, in order, the time of its pulse. No threads, and no waiting.

    skip : pulses before that of the first volume (dummy scans that send them)
    """

    def __init__(self, skip: int = 0) -> None:
        self._skip = skip
        self._queue: deque[Pulse] = deque(maxlen=MAX_QUEUED)
        self._run: int | None = None
        self._grid: _Grid | None = None
        self._is_lost = False
        self._fits = True
        self._n_lost_warnings = 0

    def add(self, pulse: Pulse) -> None:
        self._queue.append(pulse)

    def match(self, volume: Volume) -> tuple[float | None, list[TransportWarning]]:
        """The stamp of the volume's pulse, None if it has none, and warnings."""
        warnings: list[TransportWarning] = []
        if volume.run != self._run:
            self._run, self._grid, self._is_lost, self._fits, self._n_lost_warnings = volume.run, None, False, True, 0
        if self._grid is None and self._fits:
            self._grid = self._begun(volume, warnings)
        grid = self._grid
        while grid is not None and self._queue and self._queue[0].arrived_s <= (volume.arrived_s or 0.0):
            grid.add(self._queue.popleft())
        stamp = None if grid is None else grid.stamps.get(volume.index + grid.shift)
        if grid is not None and grid.n_extra:
            text = (
                f"run {volume.run}: ignored {grid.n_extra} trigger pulses that are not whole TRs from the others; "
                "check that only the scanner triggers"
            )
            warnings.append(TransportWarning("trigger.extra", text, None, volume.run))
            grid.n_extra = 0
        if stamp is None and not self._is_lost and self._n_lost_warnings < MAX_LOST_WARNINGS:
            self._n_lost_warnings += 1
            more = "; more are not reported" if self._n_lost_warnings == MAX_LOST_WARNINGS else ""
            text = f"run {volume.run}: volume {volume.index} has no trigger pulse; check the trigger cable{more}"
            warnings.append(TransportWarning("trigger.lost", text, volume.index, volume.run))
        self._is_lost = stamp is None  # one warning for several in a row
        return stamp, warnings

    def _begun(self, volume: Volume, warnings: list[TransportWarning]) -> _Grid | None:
        """The grid that begins with the first pulse of the run; None if none has arrived."""
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
        spacing_s = _spacing_s([one.stamped_s for one in train], tr_s)
        if spacing_s is not None and not _fit(train, tr_s, spacing_s):
            self._fits, self._is_lost = False, True
            text = (
                f"run {volume.run}: trigger pulses do not fit into a TR of {tr_s:g} s and are not used; check the "
                "scanner's trigger setting"
            )
            warnings.append(TransportWarning("trigger.unfit", text, None, volume.run))
            return None
        if spacing_s is not None:
            first = _first_of_tr(train, spacing_s)
            text = f"run {volume.run}: several trigger pulses per TR; the first of each TR is used"
            warnings.append(TransportWarning("trigger.several", text, None, volume.run))
        for _ in range(len(before) - len(train) + first + 1):
            self._queue.popleft()
        pulse = train[first]
        tolerance_s = TOLERANCE_TR * tr_s if spacing_s is None else _tolerance_s(spacing_s, tr_s)
        grid = _Grid(
            tr_s,
            pulse.arrived_s,
            tolerance_s,
            spacing_s is not None,
            last_s=pulse.stamped_s,
            shift=self._skip,
            stamps={0: pulse.stamped_s},
        )
        delay_s = arrived_s - pulse.arrived_s - (volume.index + grid.shift) * tr_s
        if not EARLIEST_TR * tr_s <= delay_s <= tr_s + LATEST_S:
            grid.shift = math.floor((arrived_s - pulse.arrived_s) / tr_s - EARLIEST_TR) - volume.index
            text = (
                f"run {volume.run}: pulses and volumes do not begin together; matched by time of arrival: check skip "
                "(dummy scans)"
            )
            warnings.append(TransportWarning("trigger.shifted", text, None, volume.run))
        return grid


def _whole_trs(elapsed_s: float, tr_s: float, tolerance_s: float | None = None) -> int | None:
    """The time as a whole number of TRs, at least 1; None if it is not one."""
    n = round(elapsed_s / tr_s)
    limit_s = TOLERANCE_TR * tr_s if tolerance_s is None else tolerance_s
    return n if n >= 1 and abs(elapsed_s - n * tr_s) <= limit_s else None


def _spacing_s(stamps: Sequence[float], tr_s: float) -> float | None:
    """Usual spacing of pulses that arrive several times per TR; None if they do not (a few may be extra)."""
    within = sorted(b - a for a, b in itertools.pairwise(stamps) if b - a < MAX_SPACING_TR * tr_s)
    is_pair = len(within) == 1 and len(stamps) == 3 and abs(stamps[2] - stamps[0] - tr_s) < 0.02 * tr_s
    if not is_pair and (len(within) < 2 or 2 * len(within) <= len(stamps) - 1):
        return None
    return within[len(within) // 2]


def _tolerance_s(spacing_s: float, tr_s: float) -> float:
    """How far a pulse may be from a whole number of TRs: less than the distance to its neighbours or the drift."""
    return min(0.25 * spacing_s, MAX_OFF_TR * tr_s)


def _fit(train: Sequence[Pulse], tr_s: float, spacing_s: float) -> bool:
    """Whether most pulses have another one a TR later."""
    stamps, limit_s = [pulse.stamped_s for pulse in train], _tolerance_s(spacing_s, tr_s)
    asked = [s for s in stamps if s + tr_s <= stamps[-1] + limit_s]
    found = sum(any(abs(other - s - tr_s) <= limit_s for other in stamps) for s in asked)
    return bool(asked) and 2 * found > len(asked)


def _first_of_tr(train: Sequence[Pulse], spacing_s: float) -> int:
    """Position of the first pulse of a TR: the one after a pause if they arrive in bursts, else the train's first."""
    gaps = [b.stamped_s - a.stamped_s for a, b in itertools.pairwise(train)]
    pauses = [k + 1 for k, gap_s in enumerate(gaps) if gap_s > 1.8 * spacing_s]
    sizes = {b - a for a, b in itertools.pairwise(pauses)} or {pauses[0]} if pauses else set()
    is_whole = not pauses or pauses[0] in sizes
    return 0 if is_whole else pauses[0]


def _is_followed(pulse: Pulse, others: Sequence[Pulse], tr_s: float) -> bool:
    return any(_whole_trs(other.stamped_s - pulse.stamped_s, tr_s) in (1, 2) for other in others)


def _are_a_train(pulses: Sequence[Pulse], tr_s: float) -> bool:
    steps = [_whole_trs(b.stamped_s - a.stamped_s, tr_s) for a, b in itertools.pairwise(pulses)]
    return len(pulses) == N_RESYNC and all(step == 1 for step in steps)


class Triggered:
    """A transport whose volumes also carry their trigger time, from pulses that arrive as lines of text over TCP.

    It listens from its construction. A warning about a pulse stands before the volume concerned.

    Raises BadRequest if it cannot listen on the address.
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
        self._warnings: deque[TransportWarning] = deque(maxlen=MAX_QUEUED)
        warn = self._warnings.append
        self._listener = Listener(host, port, self._serve, warn, clock.monotonic_s, allow=allow)

    @property
    def address(self) -> tuple[str, int]:
        """The address at which it listens for pulses."""
        return self._listener.address

    def items(self) -> Iterator[Item]:
        for item in self._transport.items():
            while self._warnings:
                yield self._warnings.popleft()
            if isinstance(item, Volume):
                with self._lock:
                    stamp, warnings = self._pulses.match(item)
                yield from warnings
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
