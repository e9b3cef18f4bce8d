"""Read and assemble volumes of every format with the Mindsight that the path has; the milliseconds of each, as JSON.

    python -P benchmarks/reading_child.py VOLUMES

A process of ``bench_reading.py``, which starts it with the path of this checkout or of an older one. So it uses what
both have, and leaves out a format that the older one does not know.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

import report
import scanner_files as made

import mindsight
from mindsight.scanner.transports.afni import parse_header as parse_afni
from mindsight.scanner.transports.contract import Expected
from mindsight.scanner.transports.murfi import parse_header as parse_murfi
from mindsight.volume import Volume


def either(now: str, before: str) -> Any:
    """The module by its name, or by the one that it had before the scanner's room was divided."""
    try:
        return import_module(f"mindsight.scanner.{now}")
    except ModuleNotFoundError:
        return import_module(f"mindsight.scanner.{before}")


arrivals = either("assembly.arrivals", "transports.arrivals")
Arrival = arrivals.Arrival
Assembler = either("assembly.assemble", "transports.assemble").Assembler
read_unit = either("assembly.file_contents", "transports.contents").read_unit

WARM_UP = 3  # volumes: what is imported late, and the second one, with which a run begins

Read = Callable[[], Iterator[Any]]
"""From the scanner's data to what an assembler is given."""

numbered_volume: Any = getattr(arrivals, "NumberedVolume", None) or arrivals.Placed  # the name up to 0.1


def formats(volume: int, folder: Path) -> dict[str, Read]:
    mosaic, enhanced, slices = made.mosaic(volume), made.enhanced(volume), made.slices(volume)
    plain, packed = (made.nifti(volume, folder, suffix) for suffix in (".nii", ".nii.gz"))
    murfi_header, murfi_values = made.murfi(volume)
    afni_values = made.planes(volume).tobytes()

    def afni() -> Iterator[Any]:
        yield numbered_volume("afni", volume, AFNI.volume([afni_values]), is_run=True)

    def murfi() -> Iterator[Any]:
        header = parse_murfi(murfi_header)
        yield numbered_volume(header.series, header.number - 1, header.volume(murfi_values))

    return {
        "Siemens mosaic": lambda: iter([mosaic]),
        "Siemens enhanced (XA)": lambda: iter([enhanced]),
        "GE slices": lambda: iter(slices),
        "NIfTI": lambda: read_unit(str(plain), None),
        "NIfTI, gzip": lambda: read_unit(str(packed), None),
        "AFNI": afni,
        "MURFI": murfi,
        **_mrd(volume),
    }


def _mrd(volume: int) -> dict[str, Read]:
    try:
        mrd = import_module("mindsight.scanner.transports.mrd")
        stacks_of = getattr(mrd, "Stacks", None) or import_module("mindsight.scanner.transports.mrd_stacks").Stacks
    except ModuleNotFoundError:
        return {}
    measurement, messages = mrd.parse_measurement(made.mrd_measurement()), made.mrd(volume)

    def read() -> Iterator[Any]:
        stacks = stacks_of(measurement.n_slices, measurement.multiband)
        for header, attributes, values in messages:
            for _, images in stacks.add(mrd.parse_image(header, attributes, values, measurement)):
                yield numbered_volume("mrd", volume, mrd.volume_of(images, measurement.tr_s, None))

    return {"MRD": read}


AFNI = parse_afni(made.afni_header())


def main() -> None:
    n_volumes = int(sys.argv[1])
    clocks: dict[str, report.Clock] = {}
    counts: dict[str, int] = {}
    assemblers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for volume in range(WARM_UP + n_volumes):
            for name, read in formats(volume, Path(folder)).items():
                assembler = assemblers.setdefault(name, Assembler(Expected(), 3.0))
                now_s = made.TR_S * volume

                def assembled(assembler: Any = assembler, read: Read = read, now_s: float = now_s) -> int:
                    items = [item for content in read() for item in assembler.add(Arrival(content, now_s), now_s)]
                    return sum(isinstance(item, Volume) for item in items)

                clock = clocks.setdefault(name, report.Clock()) if volume >= WARM_UP else report.Clock()
                counts[name] = counts.get(name, 0) + clock.time(assembled)
    assert set(counts.values()) == {WARM_UP + n_volumes}, f"expected every volume to come through, got {counts}"
    times = {name: {"wall_ms": clock.wall_ms, "process_ms": clock.process_ms} for name, clock in clocks.items()}
    print(json.dumps({"path": str(Path(mindsight.__file__).parent.parent), "times": times}))


if __name__ == "__main__":
    main()
