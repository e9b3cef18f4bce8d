"""What a transport's threads hand to the thread that reads it: a DICOM object, a volume, or the end of a series.

Knows nothing of how it arrived or of what becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.scanner.echoes import Echo
from mindsight.scanner.formats.dicom_header import DicomRecord
from mindsight.scanner.formats.image_type import Kind
from mindsight.volume import Volume

AS_ACQUIRED = Kind()

UNSTATED_TR_S = 2.0
"""A placeholder for volumes that state no repetition time. Their clock must supply the real one before a run begins."""


@dataclass(frozen=True, slots=True)
class NumberedVolume:
    """A volume that arrived whole, and its position in the series.

    series : digest that identifies the series, as far as its source does
    position : in its series, from 0
    is_run : the series is known to be a run, however few its volumes
    echo, echoes : this volume's echo and all echoes of the run, if there are several
    states_tr : a header or a person states the repetition time; otherwise only the volumes' clock can tell it
    stated : number of the volume in the header of a PAR/REC pair, from 1; None if ``position`` holds it already
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
    """No more volumes of this series will arrive."""

    series: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that arrived (DICOM as a record or as bytes), and when (seconds since the Unix epoch).

    number : of the file or object in the transport's count of arrivals; it lets the operator find a bad one
    """

    content: DicomRecord | NumberedVolume | Ended | bytes
    arrived_s: float
    number: int = 0

    @property
    def n_bytes(self) -> int:
        match self.content:
            case bytes():
                return len(self.content)
            case NumberedVolume():
                return self.content.volume.data.nbytes
            case DicomRecord():
                return len(self.content.pixels)
            case Ended():
                return 0


Placed = NumberedVolume  # the name up to 0.1, kept for one version
