"""Small DICOM objects made from nothing, as scanners lay them out: mosaics, slices, enhanced objects, CSA headers."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

Change = Callable[[Dataset], None]
SIDE, N_SLICES = 4, 4
TIMES_MS = (0.0, 1000.0, 500.0, 1500.0)


def planes(volume: int, n: int = N_SLICES) -> NDArray[np.int16]:
    """(Z, Y, X) values that tell volume, slice, row and column; none above 2047."""
    z, y, x = np.indices((n, SIDE, SIDE))
    return (100 + 300 * volume + 40 * z + 5 * y + x).astype(np.int16)


def seen(planes_ZYX: NDArray[np.int16]) -> NDArray[np.int16]:
    """The planes as a volume has them: (X, Y, Z), rows from the last to the first."""
    return planes_ZYX[:, ::-1].T


def written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def put(folder: Path, datasets: Sequence[Dataset]) -> Path:
    for k, dataset in enumerate(datasets):
        (folder / f"{k:03d}.dcm").write_bytes(written(dataset))
    return folder


def image(pixels: NDArray[np.int16], sop_class: str = MRImageStorage) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.7"
    dataset.SeriesInstanceUID, dataset.Modality = "2.25.8", "MR"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = pixels.astype("<i2").tobytes()
    return dataset


def raw(dataset: Dataset, keyword: str, value: str) -> None:
    """A value as some writer put it, which pydicom would not write."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    content = value.encode() + b" " * (len(value) % 2)
    dataset._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(content), content, 0, False, True, True)


def plane(dataset: Dataset, z_mm: float) -> Dataset:
    dataset.ImagePositionPatient = [0.0, 0.0, z_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.SpacingBetweenSlices = [3.0, 3.0], 3.5, 3.5
    return dataset


def mosaic(number: int, csa: bytes | None = None, *, open_elements: bool = True, n: int = N_SLICES) -> Dataset:
    """Volume ``number``, from 1, as a Siemens mosaic of TR 2 s."""
    side = int(np.ceil(np.sqrt(n)))
    tiles = np.zeros((side * side, SIDE, SIDE), np.int16)
    tiles[:n] = planes(number, n)
    picture = tiles.reshape(side, side, SIDE, SIDE).transpose(0, 2, 1, 3).reshape(side * SIDE, side * SIDE)
    dataset = plane(image(picture), 0.0)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.InstanceNumber = dataset.AcquisitionNumber = number
    dataset.RepetitionTime, dataset.EchoTime = 2000.0, 30.0
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240102", f"1000{2 * number:02d}.000000"
    if open_elements:
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0A, "US", n)
        block.add_new(0x29, "FD", list(TIMES_MS))
    if csa is not None:
        dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(
            0x10, "OB", csa + b"\0" * (len(csa) % 2)
        )
    return dataset


def slice_of(volume: int, place: int, number: int, *, n: int = N_SLICES) -> Dataset:
    """Slice ``place`` of volume ``volume``, both from 0, with that instance number."""
    dataset = plane(image(planes(volume, n)[place]), 3.5 * place)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    dataset.InstanceNumber, dataset.AcquisitionNumber = number, 1
    dataset.RepetitionTime, dataset.EchoTime = 2000.0, 30.0
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240102", f"1000{2 * volume:02d}.{place:06d}"
    return dataset


def slices_of(
    n_volumes: int, *, n: int = N_SLICES, change: Callable[[Dataset, int, int], None] | None = None
) -> list[Dataset]:
    """A run with its slices numbered through each volume, from 1. change : is given each, its volume and its place."""
    run = []
    for volume in range(n_volumes):
        for place in range(n):
            run.append(slice_of(volume, place, volume * n + place + 1, n=n))
            if change is not None:
                change(run[-1], volume, place)
    return run


def enhanced(n_volumes: int, *, number: int = 1, n: int = N_SLICES) -> Dataset:
    """Volumes as one enhanced object, each frame with its position in time, its clock and a rescaling of 1."""
    values = np.concatenate([planes(number - 1 + volume, n) for volume in range(n_volumes)])
    dataset = image(values, EnhancedMRImageStorage)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "FMRI", "NONE"]
    dataset.InstanceNumber, dataset.NumberOfFrames = number, len(values)
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence = item(RepetitionTime=2000.0)
    shared.MREchoSequence = item(EffectiveEchoTime=30.0)
    shared.PixelMeasuresSequence = item(PixelSpacing=[3.0, 3.0], SliceThickness=3.5, SpacingBetweenSlices=3.5)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items(
        [frame(volume, place) for volume in range(n_volumes) for place in range(n)]
    )
    return dataset


def frame(volume: int, place: int) -> Dataset:
    groups = Dataset()
    groups.FrameContentSequence = item(
        TemporalPositionIndex=volume + 1,
        FrameAcquisitionDateTime=f"202401021000{2 * volume:02d}.{place * 100_000:06d}",
    )
    groups.PlanePositionSequence = item(ImagePositionPatient=[0.0, 0.0, 3.5 * place])
    groups.PixelValueTransformationSequence = item(RescaleSlope=1.0, RescaleIntercept=0.0)
    return groups


def item(**values: object) -> Items:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Items([dataset])


def csa_header(fields: dict[str, list[str]], *, old: bool = False, mark: int = 77) -> bytes:
    """A CSA header in the newer layout, or the older one (no SV10, lengths with the first tag's items added)."""
    tags = {"EchoLinePosition": [""] * 6, **fields}
    added = 6 if old else 0
    parts = [b"" if old else b"SV10\4\3\2\1", struct.pack("<2I", len(tags), mark)]
    for name, values in tags.items():
        n_items = max(len(values), 6)
        parts.append(struct.pack("<64si4s3i", name.encode(), len(values), b"FD", 4, n_items, mark))
        for k in range(n_items):
            text = values[k].encode() + b"\0" if k < len(values) and values[k] else b""
            length = len(text) + added
            parts.append(struct.pack("<4i", length, length, 77, length) + text + bytes(-len(text) % 4))
    return b"".join(parts)


def csa_of_mosaic(*, old: bool = False, normal_z: float = 1.0, n: int = N_SLICES) -> bytes:
    return csa_header(
        {
            "NumberOfImagesInMosaic": [str(n)],
            "SliceNormalVector": ["0.0", "0.0", f"{normal_z}"],
            "MosaicRefAcqTimes": [f"{ms:.8f}" for ms in TIMES_MS],
        },
        old=old,
    )
