"""Each reader of what others wrote, with valid inputs to begin from.

Folders that prove what they are by digests are signed again after each change: what is tried is what lies behind them.
"""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from mindsight.errors import BadRequest
from mindsight.events import decode_table, parse_events_tsv
from mindsight.files.manifest import MANIFEST
from mindsight.protocol import dump_message, read_message
from mindsight.retrieval import CandidatePool
from mindsight.scanner import read_series
from mindsight.scanner.beside import find_motion
from mindsight.scanner.transports import afni, murfi, triggers
from mindsight.subjects.bundle.description import DESCRIPTION, digest_of
from mindsight.subjects.bundle.folder import Bundle
from mindsight.volume import Volume
from mindsight.volume_codec import decode_volume, encode_volume
from support.fuzz.campaign import Reader
from support.fuzz.mutate import mutate_bytes, mutate_gzip, mutate_json
from support.fuzz.scanner_readers import scanner_readers
from support.linear_bundle import linear_bundle
from support.murfi_sender import header
from support.par_files import Pair, write_pair

REAL = {
    "mosaic": "trio_run155/dcm/001_000007_000001.dcm",
    "multiband": "siemens_ve11_multiband_mosaic/0001.dcm",
    "enhanced": "siemens_xa30_enhanced/0001.dcm",
}


def every_reader(folder: Path, data: Path | None) -> dict[str, Reader]:
    """By name. ``folder`` : to write to. ``data`` : real scanner files; without them those readers are not there."""
    readers = {
        "nifti": Reader([_nifti()], _of_file(folder / "one.nii", _series)),
        "par": _par(folder / "par"),
        "afni": Reader([_AFNI], afni.parse_header),
        "murfi": Reader([header(_volume(), 1, mosaic=mosaic) for mosaic in (False, True)], _read_murfi),
        "pulse": Reader([b"1700000000.25\n", b"5\n", b"\n"], lambda line: triggers.parse_pulse(line, 0.0)),
        "volume": Reader([encode_volume(_volume())], decode_volume),
        "events": Reader([_EVENTS], lambda content: parse_events_tsv(decode_table(content))),
        "motion": Reader([b"0.1 0 -0.2 1e-3 0 0\n" * 6], _motion(folder / "motion")),
        "message": Reader([_message()], lambda content: dump_message(read_message(content, 1, "ses-1")), mutate_json),
        "safetensors": _safetensors(folder / "tensors"),
        "torch": _torch(folder / "torch"),
        "torch object": _torch_object(folder / "torch-object"),
        "npy": _npy(folder / "npy"),
        "npz": _npz(folder / "npz"),
        "pool": _pool(folder / "pool"),
        "artefact": _artefact(folder / "artefact"),
        "image": _image(folder / "image"),
        "images in hdf5": _hdf5(folder / "images.h5"),
        "snapshot": _snapshot(folder / "snapshot"),
        "mask": _mask(),
    }
    readers |= scanner_readers(folder, _nifti(), _of_file)
    readers |= {f"bundle {name}": reader for name, reader in _bundle(folder / "bundle").items()}
    if data is not None:
        for kind, path in REAL.items():
            readers[f"dicom {kind}"] = Reader([(data / path).read_bytes()], _of_file(folder / f"{kind}.dcm", _series))
    return readers


_AFNI = b"""ACQUISITION_TYPE 2D+zt
TR 2.0
NUM_CHAN 3
ECHO_TIMES 12 28 44
XYFOV 192.0 192.0 96.0
XYMATRIX 64 64 32
ZNUM 32
ZDELTA 3.0
ZORDER alt
DATUM short
BYTEORDER LSB_FIRST
XYZAXES R-L A-P I-S
XYZFIRST 96.0 96.0 -48.0
NAME run
DRIVE_WAIT x
"""
_EVENTS = (
    b"onset\tduration\ttrial_type\tstim_file\n-2.5\t1\tface\ta/face.png\n4\tn/a\thouse\tb/house.png\n10\t0\tn/a\tn/a\n"
)


def _volume() -> Volume:
    return Volume(np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3), np.diag([3.0, 3.0, 3.0, 1.0]), 1.5, 1, 2)


def _series(path: Path) -> object:
    return list(read_series(path))


def _of_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    path.parent.mkdir(parents=True, exist_ok=True)

    def write_and_read(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return write_and_read


def _nifti() -> bytes:
    image = nib.Nifti1Image(np.zeros((5, 6, 7, 3), np.int16), np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 1.5
    return bytes(image.to_bytes())


def _par(folder: Path) -> Reader:
    folder.mkdir()
    seeds = []
    for version in ("V4.2", "V3"):
        write_pair(folder / "run.par", Pair(version=version))
        seeds.append((folder / "run.par").read_bytes())
    return Reader(seeds, _of_file(folder / "run.par", _series), lambda r, content: mutate_bytes(r, content, 1 << 20))


def _read_murfi(content: bytes) -> None:
    header = murfi.parse_header(content)
    if header.data_bytes < 1_000_000:
        header.volume(bytes(header.data_bytes))


def _motion(folder: Path) -> Callable[[bytes], object]:
    folder.mkdir()
    (folder / "bold.nii").write_bytes(_nifti())
    return _of_file(folder / "motion.txt", lambda _: find_motion(folder, 6))


def _message() -> bytes:
    from mindsight.protocol import VolumeProcessed

    return dump_message(
        VolumeProcessed(
            session="ses-1", t=1.0, run=1, index=2, translation_mm=(0.1, 0.0, 0.0), rotation_deg=(0.0, 0.1, 0.0),
            fd_mm=0.1, censored=False,
        )
    )  # fmt: skip


def _safetensors(folder: Path) -> Reader:
    import torch
    from safetensors.torch import save

    from mindsight.weights.state_dict import read_safetensors

    seed = save({"a.weight": torch.ones(3, 4), "b": torch.zeros(2, dtype=torch.float16)})
    return Reader([seed], _of_file(folder / "weights.safetensors", read_safetensors))


def _torch(folder: Path) -> Reader:
    import torch

    from mindsight.weights.torchfile import read_torch_file

    saved = io.BytesIO()
    torch.save({"model_state_dict": {"a.weight": torch.ones(3, 4), "b": torch.zeros(2).half()}, "epoch": 3}, saved)
    return Reader([saved.getvalue()], _of_file(folder / "last.pth", read_torch_file))


def _torch_object(folder: Path) -> Reader:
    """In both of torch's formats."""
    import torch

    from mindsight.weights.torchfile import read_torch_object

    seeds = []
    for is_zip in (True, False):
        saved = io.BytesIO()
        torch.save({"a": torch.ones(3, 4), "b": [torch.zeros(2).half()]}, saved, _use_new_zipfile_serialization=is_zip)
        seeds.append(saved.getvalue())
    return Reader(seeds, _of_file(folder / "old.pt", read_torch_object))


def _npy(folder: Path) -> Reader:
    from mindsight.evaluation.inputs import read_array

    seeds = []
    for array in (np.arange(12.0).reshape(3, 4), np.ones(5, bool)):
        saved = io.BytesIO()
        np.save(saved, array)
        seeds.append(saved.getvalue())
    return Reader(seeds, _of_file(folder / "one.npy", read_array), lambda r, content: mutate_bytes(r, content, 128))


def _npz(folder: Path) -> Reader:
    from mindsight.files.arrays import read_npz

    def read(path: Path) -> object:
        try:
            return read_npz(path)
        except (OSError, ValueError) as error:
            raise BadRequest(str(error), code="answers.array") from None

    seeds = []
    for save in (np.savez, np.savez_compressed):
        saved = io.BytesIO()
        save(saved, V1=np.ones(30, bool), V2=np.zeros(30, bool))
        seeds.append(saved.getvalue())
    return Reader(seeds, _of_file(folder / "some.npz", read))


def _pool(folder: Path) -> Reader:
    linear_bundle().pool.save(folder)
    return Reader(
        [(folder / "pool.json").read_bytes()],
        _of_file(folder / "pool.json", lambda _: CandidatePool.load(folder)),
        mutate_json,
    )


def _artefact(folder: Path) -> Reader:
    """An encoder's configuration, under a manifest that fits it."""
    from mindsight.encoders.demo import DemoEncoder, EncoderConfig
    from mindsight.files.digest import sha256_of_file

    DemoEncoder(EncoderConfig(widths=(16, 16, 16))).save(folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())

    def sign_and_load(config: Path) -> object:
        manifest["sha256"]["config.json"] = sha256_of_file(config)
        (folder / MANIFEST).write_text(json.dumps(manifest))
        return DemoEncoder.load(folder)

    return Reader([(folder / "config.json").read_bytes()], _of_file(folder / "config.json", sign_and_load), mutate_json)


def _image(folder: Path) -> Reader:
    from PIL import Image

    from mindsight.encoders.sources import FolderImages

    folder.mkdir()
    seeds = []
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8))
    for kind, mode in (("PNG", "RGB"), ("PNG", "P"), ("PNG", "LA"), ("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK")):
        content = io.BytesIO()
        whole.convert(mode).save(content, kind)
        seeds.append(content.getvalue())
    return Reader(seeds, _of_file(folder / "one.png", lambda _: FolderImages(folder, 16).read(0)))


def _hdf5(path: Path) -> Reader:
    import h5py

    from mindsight.encoders.sources import Hdf5Images

    with h5py.File(path, "w") as file:
        file["images"] = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), dtype=np.uint8)

    def read(path: Path) -> object:
        images = Hdf5Images(path, 8)
        return [images.read(index) for index in range(min(4, len(images.ids)))]

    return Reader([path.read_bytes()], _of_file(path, read))


def _snapshot(folder: Path) -> Reader:
    from workers.ingest.snapshot import read_snapshot, write_snapshot

    path = folder / "ses-1.safetensors"
    write_snapshot(path, 7, {"run": {"task": "view", "tr_s": 1.5}}, {"mean": np.ones(5), "n": np.arange(3)})
    return Reader([path.read_bytes()], _of_file(path, read_snapshot))


def _mask() -> Reader:
    """A region of interest as it is sent, compressed and not."""
    from service.masks import mask_of

    inside = np.zeros((5, 6, 7), np.uint8)
    inside[2:4, 1:3, 3] = 1
    whole = bytes(nib.Nifti1Image(inside, np.diag([2.0, 2, 2, 1])).to_bytes())
    return Reader([whole, gzip.compress(whole)], mask_of, mutate_gzip)


def _bundle(folder: Path) -> dict[str, Reader]:
    """Its description, and each of its files under a description that fits it."""
    from mindsight.files.digest import sha256_of_file

    linear_bundle().save(folder)
    described = json.loads((folder / DESCRIPTION).read_bytes())

    def sign(document: bytes) -> bytes:
        try:
            changed = json.loads(document)
            changed["digest"] = digest_of(changed)
            return json.dumps(changed).encode()
        except (ValueError, TypeError, AttributeError, RecursionError):
            return document

    def mutate(random_: random.Random, content: bytes) -> bytes:
        return sign(mutate_json(random_, content))

    def load(_: Path) -> object:
        return Bundle.load(folder)

    readers = {
        "description": Reader([sign(json.dumps(described).encode())], _of_file(folder / DESCRIPTION, load), mutate)
    }
    for name in sorted(described["files"]):
        whole = (folder / name).read_bytes()

        def load_signed(path: Path, name: str = name, whole: bytes = whole) -> object:
            files = {**described["files"], name: sha256_of_file(path)}
            (folder / DESCRIPTION).write_bytes(sign(json.dumps({**described, "files": files}).encode()))
            try:
                return Bundle.load(folder)
            finally:
                path.write_bytes(whole)

        readers[name] = Reader(
            [whole], _of_file(folder / name, load_signed), mutate_json if name.endswith(".json") else mutate_bytes
        )
    return readers
