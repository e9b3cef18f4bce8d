"""A run as a Siemens XA scanner writes it, made up and small: an enhanced object of a volume each."""

from __future__ import annotations

import io

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

SHAPE = (6, 5, 4)
TR_S = 1.5


def pixels(number: int, series: str = "1.2.3") -> np.ndarray:
    """(Z, Y, X) of volume ``number``, from 1."""
    return np.random.default_rng([number, len(series), ord(series[-1])]).integers(0, 900, SHAPE[::-1]).astype("<u2")


def enhanced(number: int, series: str = "1.2.3") -> Dataset:
    """Volume ``number`` of a run, from 1, with the identity that a scanner puts in."""
    x, y, z = SHAPE
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
    dataset.SeriesInstanceUID, dataset.InstanceNumber, dataset.Modality = series, number, "MR"
    dataset.PatientName, dataset.PatientID = "Doe^John", "Doe7"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "FMRI", "NONE"]
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames, dataset.SamplesPerPixel = y, x, z, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = pixels(number, series).tobytes()
    shared, timing, measures, plane = Dataset(), Dataset(), Dataset(), Dataset()
    timing.RepetitionTime = 1000.0 * TR_S
    measures.PixelSpacing, measures.SliceThickness = [3.0, 3.0], 3.5
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.MRTimingAndRelatedParametersSequence = Sequence([timing])
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([_frame(number, k, series) for k in range(z)])
    return dataset


def _frame(number: int, k: int, series: str) -> Dataset:
    own, content, place = Dataset(), Dataset(), Dataset()
    moment_s = 36000.0 + 600.0 * int(series[-1]) + TR_S * number
    hours, minutes, seconds = int(moment_s // 3600), int(moment_s % 3600 // 60), moment_s % 60
    content.FrameAcquisitionDateTime = f"20260101{hours:02d}{minutes:02d}{seconds:09.6f}"
    content.TemporalPositionIndex = 1
    place.ImagePositionPatient = [-9.0, -6.0, 3.5 * k]
    own.FrameContentSequence, own.PlanePositionSequence = Sequence([content]), Sequence([place])
    return own


def enhanced_bytes(number: int, series: str = "1.2.3") -> bytes:
    buffer = io.BytesIO()
    enhanced(number, series).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
