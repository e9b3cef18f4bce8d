"""Trains of trigger pulses that are not one per TR: per slice or excitation, in bursts, at multiples, or foreign."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.scanner.transports import TransportWarning
from mindsight.scanner.transports.triggers import Pulse, Pulses
from mindsight.volume import Volume

TR_S, START_S, N = 1.5, 1.7e9, 20


def stamped(places_tr: list[float], delay_s: float = 0.4) -> tuple[list[float | None], list[TransportWarning]]:
    """Of each volume the place of its pulse in TRs."""
    pulses, reported, places = Pulses(), list[TransportWarning](), list[float | None]()
    waiting = [Pulse(START_S + place * TR_S, START_S + place * TR_S) for place in sorted(places_tr)]
    for index in range(N):
        arrived_s = START_S + (index + 1) * TR_S + delay_s
        volume = Volume(np.zeros((2, 2, 2), np.int16), np.eye(4), TR_S, 1, index, arrived_s=arrived_s)
        while waiting and waiting[0].arrived_s <= arrived_s:
            pulses.add(waiting.pop(0))
        stamp, warned = pulses.match(volume)
        reported += warned
        places.append(None if stamp is None else round((stamp - START_S) / TR_S, 2))
    return places, reported


@pytest.mark.parametrize("per_tr", [2, 3, 7, 10, 36])
def test_of_several_pulses_per_tr_the_first_is_taken(per_tr: int) -> None:
    places, reported = stamped([k / per_tr for k in range(N * per_tr)])
    assert places == list(range(N))
    assert [warning.code for warning in reported] == ["trigger.several"]


def test_lost_pulses_of_such_a_train_shift_nothing() -> None:
    lost = {50, 51, 130, 77, 83}  # the first of volumes 5 and 13 among them
    places, _ = stamped([k / 10 for k in range(10 * N) if k not in lost])
    assert places == [None if index in (5, 13) else index for index in range(N)]


def test_a_burst_begins_with_its_first_pulse() -> None:
    """Sparse sampling: slices in the first part of the TR."""
    assert stamped([k + 0.05 * z for k in range(N) for z in range(8)])[0] == list(range(N))


@pytest.mark.parametrize("spacing_tr", [0.3, 0.4, 0.45, 0.27])
def test_pulses_that_do_not_fit_into_a_tr_are_reported_and_not_used(spacing_tr: float) -> None:
    places, reported = stamped([spacing_tr * k for k in range(int(N / spacing_tr))])
    assert places == [None] * N
    assert [warning.code for warning in reported] == ["trigger.unfit"]


@pytest.mark.parametrize("every", [2, 4])
def test_pulses_at_multiples_of_the_tr_are_those_of_their_volumes(every: int) -> None:
    places, reported = stamped([float(k) for k in range(0, N, every)])
    assert [warning.code for warning in reported] == ["trigger.lost"] * 3
    assert places == [index if index % every == 0 else None for index in range(N)]
