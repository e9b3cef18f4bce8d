"""Several echoes of one excitation: which one is the run, and their optimal combination.

Knows nothing of formats or files.

A later echo has the same time and another contrast. If echoes were taken for volumes of one run, contrasts would
alternate and every onset would fall at half its volume. So one echo is the run: the first, or the chosen one. Or all
are combined (Posse et al., Magn. Reson. Med. 42:87-97, 1999): in each voxel an echo is weighted by its contrast,
TE exp(-TE/T2*). T2* is measured on the run's first whole volume, and the weights stay for the run. The approach to
steady state scales all echoes alike and so changes no weight, nothing drifts, and a replay gives the bits of the live
run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mindsight.errors import BadRequest, BadVolume
from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.volume import Volume

EchoChoice = int | Literal["combine"] | None
"""The first echo (None), the echo with this number, or all of them combined."""

MAX_ECHOES = 32
SAME_MS = 0.5  # stated times of one echo differ in their last digits between slices; echoes are further apart
MIN_T2_STAR_MS, MAX_T2_STAR_MS = 5.0, 300.0  # air next to bone; fluid
UNKNOWN_T2_STAR_MS = 30.0  # grey matter at 3 T, for voxels without signal


@dataclass(frozen=True, slots=True)
class Echo:
    """One echo.

    number : from 1, None if the file does not number echoes
    time_ms : echo time, None if it is not stated
    """

    number: int | None = None
    time_ms: float | None = None

    def __str__(self) -> str:
        time = "" if self.time_ms is None else f"{self.time_ms:g} ms"
        if self.number is None:
            return f"the echo at {time}" if time else "an echo"
        return f"echo {self.number} ({time})" if time else f"echo {self.number}"

    @property
    def rank(self) -> tuple[int, float]:
        return (self.number or 0, self.time_ms or 0.0)

    @property
    def is_stated(self) -> bool:
        return self.number is not None or self.time_ms is not None

    def is_same(self, other: Echo) -> bool:
        """Whether both may be the same echo: they differ in nothing that both state."""
        if self.number is not None and other.number is not None and self.number != other.number:
            return False
        times = self.time_ms, other.time_ms
        return times[0] is None or times[1] is None or abs(times[0] - times[1]) < SAME_MS


def parse_echo(text: str) -> EchoChoice:
    """The choice in an option: ``combine``, a number from 1, or empty for the first. Raises BadRequest."""
    if text in ("", "combine"):
        return "combine" if text else None
    if text.isdigit() and 1 <= int(text) <= MAX_ECHOES:
        return int(text)
    raise BadRequest(f"expected the echo to be a number from 1 to {MAX_ECHOES}, or combine", code="echoes.choice")


def canonical(echo: Echo, known: list[Echo]) -> Echo:
    """The known echo that this is; a new one is added to ``known``."""
    for one in known:
        if one.is_same(echo):
            return one
    known.append(echo)
    return echo


def choose(echoes: Sequence[Echo], choice: int | None) -> Echo:
    """The first of these different echoes, or the one with this number. Raises BadVolume if there is none."""
    ordered = sorted(echoes, key=lambda echo: echo.rank)
    if choice is None:
        return ordered[0]
    if len({echo.number for echo in ordered}) == len(ordered) and ordered[0].number is not None:
        for echo in ordered:
            if echo.number == choice:
                return echo
    elif choice <= len(ordered):  # they differ only in their times
        return ordered[choice - 1]
    raise BadVolume(f"expected echo {choice}, got {listed(ordered)}; choose one of them", code="echoes.none")


def stride_of(numbers: Sequence[set[int]]) -> int:
    """How much the numbers of one echo go up per volume: one count may run through all echoes in turn.

    numbers : the numbers of each echo
    """
    filled = [one for one in numbers if one]
    if len(filled) < 2 or sum(map(len, filled)) > len(set[int]().union(*filled)):
        return 1  # each echo has a count of its own
    ordered = sorted(filled, key=min)
    in_turn = any(min(later) < max(earlier) for earlier, later in itertools.pairwise(ordered))
    return len(filled) if in_turn else 1


def listed(echoes: Iterable[Echo]) -> str:
    return " and ".join(str(echo) for echo in sorted(echoes, key=lambda echo: echo.rank))


def choice_note(chosen: Echo, echoes: Iterable[Echo]) -> str:
    return f"several echoes: chose {chosen}; left out {listed(echo for echo in echoes if echo != chosen)}"


def combination_note(echoes: Sequence[Echo]) -> str:
    return f"combined {listed(echoes)}, weighted by echo time and the T2* of the run's first volume"


def times_of(echoes: Sequence[Echo]) -> tuple[float, ...]:
    """Echo times in ms, in the given order. Raises BadVolume if the echoes cannot be combined."""
    if len(echoes) < 2:
        raise BadVolume("expected several echoes to combine, got one; leave the choice of echo out", code="echoes.one")
    times = tuple(echo.time_ms for echo in echoes if echo.time_ms is not None and echo.time_ms > 0.0)
    if len(times) < len(echoes) or len(set(times)) < len(times):
        raise BadVolume(
            "expected a different echo time for every echo to combine them, got echoes without; choose one echo",
            code="echoes.no_times",
        )
    return times


# E echoes, XYZ the grid.


def t2_star_ms(echoes_EXYZ: Sequence[NDArray[np.generic]], times_ms: Sequence[float]) -> NDArray[np.float64]:
    """(X, Y, Z) T2* in ms from a straight line through the logarithm of the signal, limited to values of tissue."""
    times_E = np.asarray(times_ms, dtype=np.float64)
    away_E = times_E - times_E.mean()
    slope = np.zeros(echoes_EXYZ[0].shape, order="F")  # the memory order of volumes
    is_signal = np.ones(echoes_EXYZ[0].shape, dtype=bool, order="F")
    for echo_XYZ, away in zip(echoes_EXYZ, away_E, strict=True):
        signal = np.asarray(echo_XYZ, dtype=np.float64)
        is_signal &= np.isfinite(signal) & (signal > 0.0)
        slope += away * np.log(np.where(is_signal, signal, 1.0))
    rate = -slope / (away_E**2).sum()
    found = 1.0 / np.clip(rate, 1.0 / MAX_T2_STAR_MS, 1.0 / MIN_T2_STAR_MS)
    return np.where(is_signal, found, UNKNOWN_T2_STAR_MS)


def weights(echoes_EXYZ: Sequence[NDArray[np.generic]], times_ms: Sequence[float]) -> list[NDArray[np.float32]]:
    """E × (X, Y, Z) weight of each echo in each voxel; the weights add up to one."""
    t2_XYZ = np.asfortranarray(t2_star_ms(echoes_EXYZ, times_ms))
    raw_EXYZ = [time * np.exp(-time / t2_XYZ) for time in times_ms]
    total_XYZ = np.add.reduce(raw_EXYZ)
    return [np.asfortranarray(raw_XYZ / total_XYZ, dtype=np.float32) for raw_XYZ in raw_EXYZ]


class Combination:
    """Combines the echoes of a run, volume by volume, with the weights of the first volume."""

    def __init__(self, times_ms: Sequence[float]) -> None:
        self._times_ms = tuple(times_ms)
        self._weights_EXYZ: list[NDArray[np.float32]] = []

    def volume(self, echoes: Sequence[Volume]) -> Volume:
        """The first echo's volume, with its clocks and the combined voxels.

        echoes : of one volume, in the order of the times

        Raises BadVolume if the echoes' shapes differ, or are not those of the first volume.
        """
        first = echoes[0]
        shapes = {echo.data.shape for echo in echoes} | {one.shape for one in self._weights_EXYZ}
        if len(shapes) != 1:
            raise BadVolume("expected echoes of one shape throughout the run, got several", code="echoes.shape")
        if not self._weights_EXYZ:
            self._weights_EXYZ = weights([echo.data for echo in echoes], self._times_ms)
        combined_XYZ = np.zeros(first.shape, dtype=np.float32, order="F")
        for weight_XYZ, echo in zip(self._weights_EXYZ, echoes, strict=True):
            combined_XYZ += weight_XYZ * echo.data.astype(np.float32, copy=False)
        return replace(first, data=combined_XYZ)


# Echoes in DICOM objects.


def echoes_in(record: DicomRecord, known: list[Echo]) -> list[Echo]:
    """Echo of each frame; new echoes are added to ``known``."""
    met: dict[tuple[int | None, float | None], Echo] = {}
    found = []
    for frame in record.frames:
        stated = (frame.echo_number, frame.echo_time_ms)
        if stated not in met:
            met[stated] = canonical(Echo(*stated), known)
        found.append(met[stated])
    return found


def of_echo(record: DicomRecord, echo: Echo, frames: Sequence[Echo]) -> DicomRecord:
    """The record with only the frames of one echo."""
    indices = [i for i, one in enumerate(frames) if one == echo]
    if len(indices) == len(record.frames):
        return record
    size = len(record.pixels) // len(record.frames)
    pixels = b"".join(record.pixels[i * size : (i + 1) * size] for i in indices)
    return replace(record, frames=tuple(record.frames[i] for i in indices), pixels=pixels)
