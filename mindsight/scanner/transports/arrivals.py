"""What a transport's threads hand to the thread that reads it: a DICOM object, a volume, or that a series is over.

Knows nothing of how it came or of what is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.scanner.deidentify import DicomRecord
from mindsight.scanner.echoes import Echo
from mindsight.scanner.kinds import Kind
from mindsight.volume import Volume

AS_ACQUIRED = Kind()

UNSTATED_TR_S = 2.0
"""Of volumes that state no repetition time, until their clock tells it, without which there is no run."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A volume that came whole, and its place.

    series : digest that tells series apart, as far as what it came from does
    position : in its series, the first being 0
    is_run : its series is known to be one, of however few volumes
    echo, echoes : where it is one of several, and all of them
    states_tr : its volume's repetition time is that of a header or a person; else only the volumes' clock tells it
    stated : what the header of a PAR/REC pair numbers its volume, from 1; None where that is ``position`` already
    """

    series: str
    position: int
    volume: Volume
    kind: Kind = AS_ACQUIRED
    is_run: bool = False
    echo: Echo | None = None
    echoes: tuple[Echo, ...] = ()
    stated: int | None = None
    states_tr: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """No more comes of this series."""

    series: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that came, DICOM read or still as bytes, and when (seconds since the Unix epoch).

    number : of the file or object, as the transport counts those that came; by it a person finds a bad one
    """

    content: DicomRecord | Placed | Ended | bytes
    arrived_s: float
    number: int = 0

    @property
    def n_bytes(self) -> int:
        match self.content:
            case bytes():
                return len(self.content)
            case Placed():
                return self.content.volume.data.nbytes
            case DicomRecord():
                return len(self.content.pixels)
            case Ended():
                return 0
