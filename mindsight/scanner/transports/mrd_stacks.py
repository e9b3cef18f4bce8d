"""Slices of MRD images → the slices of whole volumes. Knows nothing of messages or values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mindsight.errors import BadVolume
from mindsight.scanner.transports.mrd import MrdImage

MAX_HELD = 8  # incomplete volumes of a series


@dataclass(slots=True)
class Stacks:
    """The slices of one series and echo → whole volumes by their position in time.

    n_stated : number of slices in the header, which holds if each excitation is one slice (``multiband`` of 1).
        Otherwise a volume has as many slices as arrived of the first complete repetition, since some headers count
        excitations
    counted : the sender counts repetitions; if it does not, a slice that arrives again belongs to the next one
    """

    n_stated: int | None
    multiband: int = 1
    n_slices: int | None = None
    partial: dict[int, dict[int, MrdImage]] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)  # returned, or given up
    counted: bool = False
    times: dict[int, int] = field(default_factory=dict)

    def add(self, image: MrdImage) -> Iterator[tuple[int, list[MrdImage]]]:
        """Volumes that are complete now; a volume that is given up comes with the slices that it has."""
        self.counted = self.counted or image.repetition > 0
        position = image.repetition if self.counted else self.times.get(image.slice, 0)
        self.times[image.slice] = position + 1
        if image.shape[2] > 1:
            yield position, [image]
            return
        if position in self.done or image.slice in self.partial.get(position, {}):
            raise BadVolume(
                "a slice arrived twice or too late; the first is kept, check the sender", code="slice.doubled"
            )
        self.partial.setdefault(position, {})[image.slice] = image
        if self.n_slices is None:
            self.n_slices = self._decided(position)
        yield from self._whole(MAX_HELD)

    def finish(self) -> Iterator[tuple[int, list[MrdImage]]]:
        if self.n_slices is None:
            self.n_slices = max(map(len, self.partial.values()), default=1)
        yield from self._whole(0)

    def _decided(self, position: int) -> int | None:
        if self.n_stated is not None and self.multiband == 1:
            return self.n_stated
        before = [len(members) for other, members in self.partial.items() if other < position]
        return max(*before, self.n_stated or 0) if before else None

    def _whole(self, n_held: int) -> Iterator[tuple[int, list[MrdImage]]]:
        for position in sorted(self.partial):
            members = self.partial[position]
            if (self.n_slices is not None and len(members) >= self.n_slices) or len(self.partial) > n_held:
                del self.partial[position]
                self.done.add(position)
                yield position, list(members.values())
