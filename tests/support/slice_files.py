"""DICOM objects of one slice each, made up and small, as GE and Philips write them. It knows nothing of the reader."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

ROWS, COLUMNS, SLICES = 5, 6, 4
TR_S = 2.0
GE, PHILIPS = ("ORIGINAL", "PRIMARY", "EPI", "NONE"), ("ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE")


def plane(volume: int, place: int, seed: int = 0) -> np.ndarray:
    """(Y, X) of a slice, other values for every seed (a run, an echo)."""
    rng = np.random.default_rng([volume, place, seed])
    return rng.integers(1, 900, (ROWS, COLUMNS)).astype("<u2")


def truth(volume: int, seed: int = 0, n_slices: int = SLICES) -> np.ndarray:
    """(X, Y, Z) of a volume, with y from the last row to the first as the readers have it."""
    return np.stack([plane(volume, place, seed).T[:, ::-1] for place in range(n_slices)], axis=-1)


def slice_dataset(
    volume: int,
    place: int,
    *,
    instance: int | None,
    seed: int = 0,
    series: str = "1.2.3",
    image_type: tuple[str, ...] = GE,
    echo: int | None = None,
    echo_ms: float | None = 30.0,
    temporal: int | None = None,
    clock_s: float | None = None,
    images: int | None = None,
) -> Dataset:
    """One slice of volume 0, 1, ...; ``clock_s`` of the day, by default that of its volume in the series."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.9.{volume}.{place}.{seed}"
    if series:
        dataset.SeriesInstanceUID = series
    dataset.Modality, dataset.ImageType = "MR", list(image_type)
    dataset.PatientName = "Doe^John"
    moment_s = 36000.0 + TR_S * volume if clock_s is None else clock_s
    hours, minutes, seconds = int(moment_s // 3600), int(moment_s % 3600 // 60), moment_s % 60
    dataset.AcquisitionDate = "20260101"
    dataset.AcquisitionTime = f"{hours:02d}{minutes:02d}{seconds:09.6f}"
    dataset.RepetitionTime = 1000.0 * TR_S
    for name, value in {
        "InstanceNumber": instance,
        "EchoNumbers": echo,
        "EchoTime": echo_ms,
        "TemporalPositionIdentifier": temporal,
        "ImagesInAcquisition": images,
    }.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-9.0, -6.0, 3.5 * place], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.SpacingBetweenSlices = [3.0, 3.0], 3.5, 3.5
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = ROWS, COLUMNS, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = plane(volume, place, seed).tobytes()
    return dataset


def to_bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def save(folder: Path, datasets: list[Dataset], prefix: str = "Doe") -> None:
    folder.mkdir(exist_ok=True)
    for k, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{prefix}{k:04d}.dcm", enforce_file_format=True)
