"""What comes out of a scanner's data: volumes in order, with warnings and the ends of runs in between."""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.volume import Volume


@dataclass(frozen=True, slots=True)
class TransportWarning:
    """A problem, reported in its place among the volumes. It never holds a name, a path or an address.

    code : stable, for programs: ``volume.missing``, ``volume.doubled``, ``series.ignored``, or that of a BadVolume
    text : for the operator: what happened, what Mindsight did, and what to do about it
    index, run : of the volume concerned, if there is one
    missing : the run will never get a volume at this index; it must be declared missing
    lost : data that arrived, or should have, is in no volume; the exit code of the stream reports it
    """

    code: str
    text: str
    index: int | None = None
    run: int | None = None
    missing: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class RunEnded:
    """No more volumes of this run will arrive.

    n_volumes : TRs from the first volume to the last, missing volumes included
    """

    run: int
    n_volumes: int


Item = Volume | TransportWarning | RunEnded

Trouble = TransportWarning  # the name up to 0.1, kept for one version
