"""Everything that Mindsight keeps of a DICOM object: a few numbers and words. Knows nothing of how they are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of a DICOM object; fields that the object does not state are None.

    position_mm, orientation : in DICOM's patient frame (LPS); orientation is the direction of a row, then of a column
    spacing_mm : (down a column, along a row), as in PixelSpacing
    slope, intercept : from stored values to the signal: Philips' real scaling if stated, else the public rescaling
    acquired_s : seconds since the Unix epoch
    temporal_position : counts the volumes from 1, by the frame's own number or by its dimension index
    component : DICOM's word (``PHASE``), empty if the frame has none of its own
    echo_number : counts the echoes of one excitation from 1; enhanced objects state it if echoes are a dimension
    scaling : which scaling is stated: ``Philips``, ``rescaled``, ``plain`` (1 and 0), or empty for none
    stack : counts an enhanced object's stacks from 0
    index : the frame's position along the object's dimensions
    """

    position_mm: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing_mm: tuple[float, ...] | None
    slice_spacing_mm: float | None
    slope: float
    intercept: float
    acquired_s: float | None
    temporal_position: int | None
    component: str
    echo_time_ms: float | None = None
    echo_number: int | None = None
    scaling: str = ""
    stack: int = 0
    index: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class DicomRecord:
    """Everything that Mindsight keeps of a DICOM object.

    series : digest that identifies the series, never stored
    image_type : the words of ImageType, then those of Siemens' ImageType4MF, if there is one
    component : DICOM's word for magnitude, phase, real or imaginary; empty if neither it nor GE's number is stated
    pixels : stored values, little-endian, frame by frame, row by row; empty if only the header was read
    images_in_acquisition : stated number of slices per volume: GE's or Philips' own count, else the public one, which
        is a multiple of the slices in some files
    csa_* : of mosaics only, from Siemens' private header or the open private elements; times in milliseconds
    csa_readable : whether the mosaic's CSA header could be read; None if there is none
    vendor : one of the known names, never the element's text; empty if unknown
    slice_clock : when the slice was acquired by GE's clocks, in one of ``slice_clock_units_s``; None for other vendors
    """

    series: str
    modality: str
    image_type: tuple[str, ...]
    sop_class: str
    acquisition_number: int | None
    instance_number: int | None
    images_in_acquisition: int | None
    tr_s: float | None
    rows: int
    columns: int
    dtype: str
    frames: tuple[Frame, ...]
    csa_slices: int | None
    csa_normal: tuple[float, ...] | None
    csa_times_ms: tuple[float, ...] | None
    slice_clock: float | None
    slice_clock_units_s: tuple[float, ...]
    component: str
    pixels: bytes
    csa_readable: bool | None = None
    vendor: str = ""
