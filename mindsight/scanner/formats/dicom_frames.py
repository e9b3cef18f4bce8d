"""The planes of a DICOM object, one or many. Knows nothing of files, pixels or volumes.

In an enhanced object each macro is in the frame's own groups or in the shared ones (PS3.3 C.7.6.16), so each value is
looked up in both.
"""

from __future__ import annotations

from dataclasses import dataclass

from mindsight.scanner.formats.allowed import Allowed
from mindsight.scanner.formats.dicom_record import Frame
from mindsight.scanner.formats.moments import moment_seconds, seconds
from mindsight.scanner.formats.vendors import philips_scaling
from mindsight.scanner.formats.written import whole

# Attributes by which a dimension may count the volumes, best first: PS3.6.
_TIME_POINTERS = (
    0x00209128,  # TemporalPositionIndex
    0x0020930D,  # TemporalPositionTimeOffset
    0x00200100,  # TemporalPositionIdentifier
    0x00189074,  # FrameAcquisitionDateTime
    0x00189151,  # FrameReferenceDateTime
    0x00209156,  # FrameAcquisitionNumber
)
_ECHO_POINTERS = (0x00189082, 0x00180081, 0x00180086)  # EffectiveEchoTime, EchoTime, EchoNumbers


@dataclass(frozen=True, slots=True)
class _Dimensions:
    """Which of a frame's dimension index values count its volume and its echo; None if none does."""

    time: int | None
    echo: int | None


def plain_frame(head: Allowed) -> Frame:
    """The plane of a single-frame object."""
    slope, intercept, scaling = _scaling(head, head)
    return Frame(
        position_mm=head.numbers("ImagePositionPatient", 3),
        orientation=head.numbers("ImageOrientationPatient", 6),
        spacing_mm=head.numbers("PixelSpacing", 2),
        slice_spacing_mm=_slice_spacing(head),
        slope=slope,
        intercept=intercept,
        scaling=scaling,
        acquired_s=_acquired_s(head),
        temporal_position=head.integer("TemporalPositionIdentifier"),
        component="",
        echo_time_ms=head.number("EchoTime"),
        echo_number=head.integer("EchoNumbers"),
    )


def enhanced_frames(head: Allowed, shared: Allowed) -> tuple[Frame, ...]:
    dimensions = _dimensions(head)
    zone = head.text("TimezoneOffsetFromUTC")
    stacks: dict[str, int] = {}
    return tuple(
        _enhanced_frame(own.beside(shared), zone, dimensions, stacks)
        for own in head.items("PerFrameFunctionalGroupsSequence")
    )


def _enhanced_frame(groups: Allowed, zone: str, dimensions: _Dimensions, stacks: dict[str, int]) -> Frame:
    content, measures = groups.merged("FrameContentSequence"), groups.merged("PixelMeasuresSequence")
    index = tuple(whole(value) or 0 for value in content.numbers("DimensionIndexValues", None) or ())

    def along(dimension: int | None) -> int | None:
        return index[dimension] if dimension is not None and dimension < len(index) else None

    slope, intercept, scaling = _scaling(groups.merged("PixelValueTransformationSequence"), groups)
    position = content.integer("TemporalPositionIndex")
    moment = content.text("FrameAcquisitionDateTime") or content.text("FrameReferenceDateTime")
    return Frame(
        position_mm=groups.merged("PlanePositionSequence").numbers("ImagePositionPatient", 3),
        orientation=groups.merged("PlaneOrientationSequence").numbers("ImageOrientationPatient", 6),
        spacing_mm=measures.numbers("PixelSpacing", 2),
        slice_spacing_mm=_slice_spacing(measures),
        slope=slope,
        intercept=intercept,
        scaling=scaling,
        acquired_s=moment_seconds(moment, zone),
        temporal_position=along(dimensions.time) if position is None else position,
        component=groups.merged("MRImageFrameTypeSequence").text("ComplexImageComponent"),
        echo_time_ms=groups.merged("MREchoSequence").number("EffectiveEchoTime"),
        echo_number=along(dimensions.echo),
        stack=stacks.setdefault(content.text("StackID"), len(stacks)),
        index=index,
    )


def _dimensions(head: Allowed) -> _Dimensions:
    pointers = [_pointer(item) for item in head.items("DimensionIndexSequence")]

    def dimension_of(wanted: tuple[int, ...]) -> int | None:
        return next((pointers.index(tag) for tag in wanted if tag in pointers), None)

    return _Dimensions(dimension_of(_TIME_POINTERS), dimension_of(_ECHO_POINTERS))


def _pointer(item: Allowed) -> int | None:
    value = item.value("DimensionIndexPointer")
    return int(value) if isinstance(value, int) else None


def _slice_spacing(measures: Allowed) -> float | None:
    """Distance between slices, without the sign that some vendors use for the direction."""
    stated = (measures.number("SpacingBetweenSlices"), measures.number("SliceThickness"))
    return next((abs(spacing_mm) for spacing_mm in stated if spacing_mm), None)


def _scaling(transformation: Allowed, groups: Allowed) -> tuple[float, float, str]:
    """Slope and intercept to the signal: Philips' own scale, else the rescaling, else the real-world mapping."""
    slope, intercept = transformation.number("RescaleSlope"), transformation.number("RescaleIntercept")
    slope = slope or None  # 0 would leave no signal: taken as unstated
    philips = philips_scaling(groups, 1.0 if slope is None else slope, intercept or 0.0)
    if philips is not None:
        return *philips, "Philips"
    if slope is None and intercept is None:
        world = groups.merged("RealWorldValueMappingSequence")
        slope, intercept = world.number("RealWorldValueSlope"), world.number("RealWorldValueIntercept")
    if slope is None and intercept is None:
        return 1.0, 0.0, ""
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    return slope, intercept, "plain" if (slope, intercept) == (1.0, 0.0) else "rescaled"


def _acquired_s(head: Allowed) -> float | None:
    zone = head.text("TimezoneOffsetFromUTC")
    found = moment_seconds(head.text("AcquisitionDateTime"), zone)
    return seconds(head.text("AcquisitionDate"), head.text("AcquisitionTime"), zone) if found is None else found
