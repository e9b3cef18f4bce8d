"""``mindsight convert mindeye2``: a released checkpoint becomes a folder of safetensors with a manifest.

Knows nothing of decoding. Tensors are read from the mapped source and written piece by piece, so that neither the
source nor the result is in memory as a whole; the folder appears under its name once all of it is on disk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mindsight.decoders.mindeye2.adapter import RECOMPUTED, dtype_of, fitting_state
from mindsight.files.manifest import MANIFEST, Proof, read_manifest, verify_folder, write_manifest
from mindsight.shares import Report, Shares, unreported
from mindsight.weights.conversion import DTYPE_NAMES, digest_of_files, new_folder, size_of, write_streamed
from mindsight.weights.state_dict import read_state_dict, source_files

KIND, WEIGHTS = "mindeye2", "mindeye2.safetensors"
_PROOF = Proof("checkpoint", "MindEye2's weights", "restore the folder or convert the checkpoint again")
# Voxels of nsdgeneral at 1.8 mm (Allen et al. 2022), by which a ridge layer's subject is recognised
NSD_VOXELS = {15724: 1, 14278: 2, 15226: 3, 13153: 4, 13039: 5, 17907: 6, 12682: 7, 14386: 8}


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A ridge layer: its index, its voxels, and the NSD subject with that many (None if there is none)."""

    index: int
    voxels: int
    nsd: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """The manifest of a converted checkpoint.

    dtype : of the weights (rotary frequencies stay float32)
    source, source_sha256, source_bytes : name, digest and size of the source; for several files, the digest of their
        names and digests
    layout : every dimension
    dropped : keys that were left out because they are recomputed
    sha256 : of each file in the folder
    """

    dtype: str
    source: str
    source_sha256: str
    source_bytes: int
    layout: dict[str, Any]
    subjects: tuple[Subject, ...]
    dropped: tuple[str, ...]
    sha256: dict[str, str]


def convert_mindeye2(
    source: Path, out: Path, dtype: torch.dtype = torch.float32, report: Report = unreported
) -> Converted:
    """Write the folder ``out``: ``mindeye2.safetensors`` with the weights alone, and ``manifest.json``.

    Raises Conflict (``checkpoint.exists``) if ``out`` exists; ModelMismatch if the source is no MindEye2
    checkpoint, see ``load_mindeye2``, or a weight is not finite in ``dtype`` (``checkpoint.not_finite``); StorageFull
    if there is not enough space, and then leaves nothing behind.
    """
    files = source_files(source)
    found = read_state_dict(source)
    layout, state = fitting_state(found)

    def written_as(key: str) -> torch.dtype:
        return dtype_of(key, dtype)

    n_source, n_written = sum(path.stat().st_size for path in files), size_of(state, written_as)
    shares = Shares(report, n_source + n_written)
    with new_folder(out, n_written) as partial:
        converted = Converted(
            dtype=DTYPE_NAMES[dtype],
            source=source.name,
            source_sha256=digest_of_files(files, shares.of(f"reading {source.name}")),
            source_bytes=n_source,
            layout=asdict(layout),
            subjects=tuple(
                Subject(index=index, voxels=voxels, nsd=NSD_VOXELS.get(voxels))
                for index, voxels in enumerate(layout.voxels)
            ),
            dropped=tuple(key for key in found if key.startswith(RECOMPUTED)),
            sha256={WEIGHTS: write_streamed(partial / WEIGHTS, state, written_as, shares.of(f"writing {WEIGHTS}"))},
        )
        described = asdict(converted)
        write_manifest(partial, KIND, described.pop("sha256"), **described)
    return converted


def is_converted(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def verified_weights(folder: Path) -> Path:
    """The weights of a converted folder, or of one that ships with Mindsight, after every file's digest was checked.

    Raises ModelMismatch: ``checkpoint.unreadable``, ``checkpoint.version``, ``checkpoint.tampered``.
    """
    sums = read_manifest(_PROOF, folder, KIND)
    verify_folder(_PROOF, folder, sums, only={WEIGHTS, *sums})
    return folder / WEIGHTS
