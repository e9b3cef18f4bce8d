"""What counts as late or silent: only what did not come while nothing was left to read."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np

from mindsight.scanner.assembly.arrivals import Arrival, NumberedVolume
from mindsight.scanner.transports import Clock, Item, Timeouts
from mindsight.scanner.transports.receiver import Receiver
from mindsight.volume import Volume
from support.taking import CLOCK, codes, places, until_volumes

TIMEOUTS = Timeouts(idle_s=1.0, late_s=0.3)


def offer(receiver: Receiver, *positions: int) -> None:
    for position in positions:
        volume = Volume(np.full((2, 3, 4), position, np.int16), np.eye(4), 2.0, 1, 0, acquired_s=2.0 * position)
        assert receiver.offer(Arrival(NumberedVolume("a", position, volume, is_run=True), 0.0))


def test_what_waits_behind_a_busy_reader_is_not_late() -> None:
    """The reader waits for the service for longer than that; the volume that was overtaken is here by then."""
    receiver, items = Receiver(clock=CLOCK, timeouts=TIMEOUTS), list[Item]()
    offer(receiver, 0, 2, 0, 3, 1, 4)
    for item in receiver.items():
        items.append(item)
        time.sleep(0.4)
        if until_volumes(5)(items):
            receiver.close()
    assert places(items) == [(1, index) for index in range(5)]
    assert codes(items) == ["volume.doubled"]


def test_a_volume_that_does_not_come_is_missed_while_others_keep_coming() -> None:
    receiver, items, sent = Receiver(clock=CLOCK, timeouts=TIMEOUTS), list[Item](), 2
    offer(receiver, 0, 2)
    began_s = time.monotonic()
    for item in receiver.items():
        items.append(item)
        if codes(items) == [] and time.monotonic() - began_s < 20:
            sent += 1
            offer(receiver, sent)
        else:
            receiver.close()
    assert codes(items) == ["volume.missing"]


def test_a_machine_that_stands_still_neither_misses_a_volume_nor_ends_the_stream() -> None:
    """At every look another hour has passed: no thread could bring anything in that time."""
    began_s, looks = time.monotonic(), itertools.count()
    clock = Clock(time.time, lambda: began_s + 3600.0 * next(looks))
    receiver, items = Receiver(clock=clock, timeouts=Timeouts(idle_s=60.0, late_s=30.0)), list[Item]()
    offer(receiver, 0, 2)
    threading.Timer(0.3, offer, (receiver, 1)).start()
    for item in receiver.items():
        items.append(item)
        if until_volumes(3)(items):
            receiver.close()
    assert places(items) == [(1, 0), (1, 1), (1, 2)]
    assert codes(items) == []
