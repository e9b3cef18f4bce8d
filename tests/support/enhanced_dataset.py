"""Enhanced objects of the same made-up run as ``slice_files``: volumes, echoes and slices as frames of one object."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage

from support.slice_files import SLICES, plane, slice_dataset


def enhanced_run(
    volumes: list[int],
    *,
    instance: int,
    series: str = "1.2.3",
    echoes_ms: tuple[float, ...] = (30.0,),
    seed: int = 0,
    n_last: int = SLICES,
) -> Dataset:
    """n_last : slices of the last volume that are there"""
    dataset = slice_dataset(volumes[0], 0, instance=instance, series=series, echo_ms=None)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "AcquisitionTime"):
        delattr(dataset, name)
    frames = [
        (volume, echo, place)
        for volume in volumes
        for echo in range(len(echoes_ms))
        for place in range(n_last if volume == volumes[-1] else SLICES)
    ]
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.stack([plane(v, place, seed + echo) for v, echo, place in frames]).tobytes()
    shared, measures, turned = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [3.0, 3.0], 3.5
    turned.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([turned])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [_frame(k - volumes[0] + 1, echoes_ms[echo], place) for k, echo, place in frames]
    )
    return dataset


def _frame(position: int, echo_ms: float, place: int) -> Dataset:
    own, content, where, echo = Dataset(), Dataset(), Dataset(), Dataset()
    content.TemporalPositionIndex = position
    where.ImagePositionPatient = [-9.0, -6.0, 3.5 * place]
    echo.EffectiveEchoTime = echo_ms
    own.FrameContentSequence, own.PlanePositionSequence = Sequence([content]), Sequence([where])
    own.MREchoSequence = Sequence([echo])
    return own
