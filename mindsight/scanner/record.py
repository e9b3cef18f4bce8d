"""What Mindsight ever knows of a DICOM object: a few numbers and words. Knows nothing of how they are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """One plane of a DICOM object; None where the object does not say.

    position_mm, row_direction and column_direction are in DICOM's patient frame (LPS). spacing_mm is (down a column,
    along a row), as in PixelSpacing. component is DICOM's word (``PHASE``), empty where the frame has none of its own.
    slope and intercept give the signal: Philips' real scaling where it is stated, else the rescaling of every vendor.
    scaling says which is stated: ``Philips``, ``rescaled``, ``plain`` (1 and 0), or empty where none is.
    temporal_position counts the volumes from 1, by the frame's own number or by its dimension index. echo_number counts
    the echoes of one excitation from 1; enhanced objects state it where echoes are a dimension. stack counts an
    enhanced object's stacks from 0, and index is the frame's place along the object's dimensions.
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
    """All that Mindsight ever knows of a DICOM object.

    series : digest that tells series apart, never kept
    image_type : the words of ImageType, then those of Siemens' ImageType4MF, where there is one
    component : DICOM's word for magnitude, phase, real or imaginary; empty where neither it nor GE's number is there
    pixels : stored values, little-endian, frame by frame, row by row; empty where only the header was read
    images_in_acquisition : slices of one volume as the file states them; GE's and Philips' own counts before the
        public one, which is a multiple of the slices in some files
    csa_* : of mosaics alone, from Siemens' private header or the open private elements; times in milliseconds
    csa_readable : whether the mosaic's CSA header could be read; None where there is none
    vendor : whose scanner it is, one of the known names and never the element's text; empty where it is none of them
    slice_clock : when the slice was acquired, by GE's clocks, in GE's unit (one of ``slice_clock_units_s``); else None
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
