"""Volumes of a 2 mm run as each format has them, made up at random: DICOM objects, NIfTI, MURFI, AFNI and MRD messages.

Knows nothing of the readers. Headers have what scanners write, a CSA header of a hundred fields among it, since what a
header costs to read is part of the figure.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

SHAPE = X, Y, Z = 104, 104, 66
MM, TR_S, MULTIBAND = 2.0, 1.5, 3
TIMES_S = [round(TR_S * (k % (Z // MULTIBAND)) / (Z // MULTIBAND), 4) for k in range(Z)]
N_CSA_FIELDS = 100

# The layouts are those of MURFI's RtExternalSenderImageInfo and of MRD's image header.
_MURFI = struct.Struct("<5s3x4x64s336x16s??2x32x3i12f16xi4xi4x?5x6x48x")
_MRD = struct.Struct("<HHQI3H3fH3f3f3f3f3f6HI3I3H8i8fI")
_MRD_XML = b"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding><encodingLimits>
<slice><minimum>0</minimum><maximum>%d</maximum></slice></encodingLimits></encoding>
<sequenceParameters><TR>%f</TR><TE>30</TE></sequenceParameters></ismrmrdHeader>""" % (Z - 1, 1000 * TR_S)


def planes(volume: int) -> NDArray[np.int16]:
    """(Z, Y, X) of volume 0, 1, ..., of which no two are alike."""
    return np.random.default_rng(volume).integers(0, 4096, (Z, Y, X)).astype("<i2")


def mosaic(volume: int) -> bytes:
    side = int(np.ceil(np.sqrt(Z)))
    tiles = np.zeros((side * side, Y, X), "<i2")
    tiles[:Z] = planes(volume)
    dataset = _image(tiles.reshape(side, side, Y, X).transpose(0, 2, 1, 3).reshape(side * Y, side * X))
    _place(dataset, 0.0)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.Manufacturer = "SIEMENS"
    dataset.InstanceNumber = dataset.AcquisitionNumber = volume + 1
    dataset.RepetitionTime, dataset.EchoTime, dataset.AcquisitionTime = 1000 * TR_S, 30.0, _time(TR_S * volume)
    open_elements = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    open_elements.add_new(0x0A, "US", Z)
    open_elements.add_new(0x29, "FD", [1000 * moment for moment in TIMES_S])
    dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True).add_new(0x10, "OB", _csa())
    return _written(dataset)


def enhanced(volume: int) -> bytes:
    """As Siemens XA writes it: a volume an object."""
    dataset = _image(planes(volume), EnhancedMRImageStorage)
    dataset.ImageType, dataset.Manufacturer = ["ORIGINAL", "PRIMARY", "FMRI", "NONE"], "SIEMENS"
    dataset.InstanceNumber = dataset.AcquisitionNumber = volume + 1
    dataset.NumberOfFrames = Z
    shared = Dataset()
    shared.MRTimingAndRelatedParametersSequence = _item(RepetitionTime=1000 * TR_S)
    shared.MREchoSequence = _item(EffectiveEchoTime=30.0)
    shared.PixelMeasuresSequence = _item(PixelSpacing=[MM, MM], SliceThickness=MM, SpacingBetweenSlices=MM)
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    dataset.PerFrameFunctionalGroupsSequence = Items([_frame(volume, place) for place in range(Z)])
    return _written(dataset)


def slices(volume: int) -> list[bytes]:
    """As GE writes it: a slice an object, the numbers running through each volume."""
    return [_slice(volume, place, plane) for place, plane in enumerate(planes(volume))]


def _slice(volume: int, place: int, plane: NDArray[np.int16]) -> bytes:
    dataset = _image(plane)
    _place(dataset, MM * place)
    dataset.ImageType, dataset.Manufacturer = ["ORIGINAL", "PRIMARY", "EPI", "NONE"], "GE MEDICAL SYSTEMS"
    dataset.InstanceNumber, dataset.AcquisitionNumber = volume * Z + place + 1, 1
    dataset.TemporalPositionIdentifier, dataset.NumberOfTemporalPositions = volume + 1, 200
    dataset.ImagesInAcquisition = Z
    dataset.RepetitionTime, dataset.EchoTime, dataset.AcquisitionTime = 1000 * TR_S, 30.0, _time(TR_S * volume)
    return _written(dataset)


def nifti(volume: int, folder: Path, suffix: str = ".nii") -> Path:
    image = nib.Nifti1Image(planes(volume).T, np.diag([MM, MM, MM, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    path = folder / f"run_{volume:04d}{suffix}"
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data, 1) if suffix.endswith(".gz") else data)
    return path


def murfi(volume: int) -> tuple[bytes, bytes]:
    """Header and values."""
    matrix = (*(MM, 0, 0, 0), *(0, MM, 0, 0), *(0, 0, MM, 0))
    fields = (b"ERTI", b"1.2.3", b"int16_t", True, False, X, Y, Z, *matrix, int(1000 * TR_S), volume + 1, False)
    return _MURFI.pack(*fields), planes(volume).tobytes()


def afni_header() -> bytes:
    times = " ".join(map(str, TIMES_S))
    lines = (
        "ACQUISITION_TYPE 3D+timing",
        f"TPATTERN explicit {times}",
        f"TR {TR_S}",
        f"XYFOV {X * MM} {Y * MM} {Z * MM}",
        f"XYMATRIX {X} {Y} {Z}",
        "DATUM short",
        "BYTEORDER LSB_FIRST",
        "XYZAXES R-L A-P I-S",
        "XYZFIRST 104R 104A 66I",
    )
    return "\n".join(lines).encode()


def mrd_measurement() -> bytes:
    return _MRD_XML


def mrd(volume: int) -> list[tuple[bytes, bytes, bytes]]:
    """Image header, attributes and values of each slice, as OpenRecon hands them over."""
    return [_mrd_slice(volume, place, plane) for place, plane in enumerate(planes(volume))]


def _mrd_slice(volume: int, place: int, plane: NDArray[np.int16]) -> tuple[bytes, bytes, bytes]:
    attributes = b"<ismrmrdMeta><meta><name>ImageType</name><value>ORIGINAL\\PRIMARY\\M</value></meta></ismrmrdMeta>"
    stamp = int(400 * (36_000 + TR_S * volume + TIMES_S[place]))
    head = _MRD.pack(
        *(1, 2, 0, 7, X, Y, 1, X * MM, Y * MM, MM, 1, 0.0, 0.0, MM * place, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        *(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0, place, 0, 0, volume, 0, stamp, 0, 0, 0, 1, volume, 1),
        *((0,) * 8 + (0.0,) * 8),
        len(attributes),
    )
    return head, attributes, plane.tobytes()


def _image(pixels: NDArray[np.int16], sop_class: str = MRImageStorage) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.7"
    dataset.SeriesInstanceUID, dataset.Modality, dataset.AcquisitionDate = "2.25.8", "MR", "20240102"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = pixels.tobytes()
    return dataset


def _place(dataset: Dataset, z_mm: float) -> None:
    dataset.ImagePositionPatient = [0.0, 0.0, z_mm]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness, dataset.SpacingBetweenSlices = [MM, MM], MM, MM


def _frame(volume: int, place: int) -> Dataset:
    groups = Dataset()
    moment = _time(TR_S * volume + TIMES_S[place])
    groups.FrameContentSequence = _item(FrameAcquisitionDateTime=f"20240102{moment}", FrameAcquisitionNumber=1)
    groups.PlanePositionSequence = _item(ImagePositionPatient=[0.0, 0.0, MM * place])
    groups.PixelValueTransformationSequence = _item(RescaleSlope=1.0, RescaleIntercept=0.0)
    return groups


def _item(**values: object) -> Items:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Items([dataset])


def _csa() -> bytes:
    fields = {f"Field{k}": ["1.00000000"] for k in range(N_CSA_FIELDS)} | {
        "NumberOfImagesInMosaic": [str(Z)],
        "SliceNormalVector": ["0.0", "0.0", "1.0"],
        "MosaicRefAcqTimes": [f"{1000 * moment:.8f}" for moment in TIMES_S],
    }
    tags = [_csa_tag(name.encode(), values) for name, values in fields.items()]
    return b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77) + b"".join(tags)


def _csa_tag(name: bytes, values: Sequence[str]) -> bytes:
    parts = [struct.pack("<64si4s3i", name, len(values), b"FD", 4, len(values), 77)]
    for value in values:
        text = value.encode() + b"\0"
        parts.append(struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4))
    return b"".join(parts)


def _time(after_s: float) -> str:
    """Of a run that began at ten."""
    minutes, seconds = divmod(after_s, 60)
    return f"10{int(minutes):02d}{seconds:09.6f}"


def _written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
