"""The subject bundle: a folder with everything that decodes one person's brain, and the proof that it is unchanged.

Knows nothing of sessions, scanners or networks. Nothing in it is executable: JSON, safetensors and PNG.

Letters: XYZ the reference's grid, V voxels of the mask (in C order of the grid), N candidates.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from mindsight.errors import Conflict, ModelMismatch
from mindsight.evaluation import Accuracy
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions, Space
from mindsight.preprocessing.alerts import Baseline
from mindsight.retrieval import Calibration, CandidatePool, LinearDecoder, ReducedIndex
from mindsight.retrieval.reduced import INDEX
from mindsight.retrieval.tensors import map_tensors, write_tensors
from mindsight.volume import Volume

VERSION = 1
_BUNDLE, _SPACE, _STATISTICS, _DECODER = (
    "bundle.json",
    "space.safetensors",
    "statistics.safetensors",
    "decoder.safetensors",
)

# Of ``Space``, where calibration found them out
_OF_VOXELS = ("hrf_V", "lag_V", "noise_pool_V")

Kind = Literal["linear", "mindeye2"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Bundle:
    """Everything that decodes one person.

    kind : "linear" or "mindeye2", what ``decoder`` is
    subject : pseudonym
    created : UTC, ISO 8601
    options : how betas come about, fixed at calibration: a decoder fits only betas made the way it was trained on
    space : the volume that others are aligned to, with the TR of the calibration runs, and the V voxels in it
    statistics : of the calibration betas
    calibration : what scores mean
    labels : column of the events that named the candidates, None where pictures did
    baseline : signal and tSNR of the calibration runs in the mask, None where they were not measured
    accuracy : leave-one-run-out, at calibration; None where it was not measured
    decoder : the linear one, or the file with MindEye2's weights
    index : sketches of a pool too large to be read for every answer; None: the whole pool is read
    folder : where it was loaded from; None until it is saved
    digest : sha256 over everything in the folder; empty until it is saved
    """

    kind: Kind
    subject: str
    created: str
    options: IngestOptions
    space: Space
    statistics: Statistics
    calibration: Calibration
    pool: CandidatePool
    decoder: LinearDecoder | Path
    index: ReducedIndex | None = None
    baseline: Baseline | None = None
    labels: str | None = None
    accuracy: Accuracy | None = None
    folder: Path | None = None
    digest: str = ""

    @property
    def pool_digest(self) -> str:
        """sha256 of the pool's ids, labels and embeddings."""
        return self.pool.digest

    def save(self, folder: Path) -> Bundle:
        """Write into a folder that does not exist yet, whole or not at all; returns what ``load`` then reads.

        Raises Conflict (``bundle.exists``), and ModelMismatch where the parts do not fit each other.
        """
        self._check()
        if folder.exists():
            raise Conflict(
                f"expected a new folder for the bundle, {folder.name} exists: name another or remove it",
                code="bundle.exists",
            )
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._write_parts(partial)
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        manifest = {path.relative_to(partial).as_posix(): _sha256(path) for path in files}
        described = {**self._described(), "files": manifest}
        described["digest"] = _digest(described)
        (partial / _BUNDLE).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        partial.rename(folder)
        return Bundle.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle and verify every byte of it.

        Raises ModelMismatch: ``bundle.unreadable``, ``bundle.version``, ``bundle.tampered`` where a file is missing,
        added or not what it was, ``bundle.invalid`` where the parts do not fit each other.
        """
        described = _read_description(folder)
        _verify(folder, described.files)
        space, statistics = map_tensors(folder / _SPACE), map_tensors(folder / _STATISTICS)
        pool = CandidatePool.load(folder / "pool")
        bundle = cls(
            kind=described.kind,
            subject=described.subject,
            created=described.created,
            options=described.options,
            space=Space(
                _reference(space, described.tr_s),
                np.array(space["mask"]),
                **{name: np.array(space[name]) for name in _OF_VOXELS if name in space},
            ),
            statistics=Statistics(np.array(statistics["mean"]), np.array(statistics["std"]), int(statistics["n"][0])),
            calibration=described.calibration,
            pool=pool,
            decoder=LinearDecoder.load(folder / _DECODER) if described.kind == "linear" else folder / _DECODER,
            index=ReducedIndex.beside(folder / "pool", pool),
            baseline=described.baseline,
            labels=described.labels,
            accuracy=described.accuracy,
            folder=folder,
            digest=described.digest,
        )
        bundle._check()
        return bundle

    def _check(self) -> None:
        n = self.space.n_voxels
        decoded = len(self.decoder.weights_VD) if isinstance(self.decoder, LinearDecoder) else n
        sizes = {
            "mean": len(self.statistics.mean_V),
            "standard deviation": len(self.statistics.std_V),
            "decoder": decoded,
        }
        wrong = {name: size for name, size in sizes.items() if size != n}
        if wrong:
            raise ModelMismatch(
                f"expected everything for the {n} voxels of the mask, got {wrong}", code="bundle.invalid"
            )
        if isinstance(self.decoder, Path) != (self.kind == "mindeye2") or (
            isinstance(self.decoder, Path) and self.decoder.suffix != ".safetensors"
        ):
            raise ModelMismatch(
                f"expected a decoder of kind {self.kind}: a LinearDecoder, or MindEye2's weights as safetensors",
                code="bundle.invalid",
            )
        if isinstance(self.decoder, LinearDecoder) and self.decoder.shape != self.pool.token_shape:
            raise ModelMismatch(
                f"expected a decoder into the pool's embeddings {self.pool.token_shape}, got {self.decoder.shape}",
                code="bundle.invalid",
            )

    def _write_parts(self, folder: Path) -> None:
        space, statistics = self.space, self.statistics
        of_voxels = {name: getattr(space, name) for name in _OF_VOXELS}
        write_tensors(
            folder / _SPACE,
            {
                "reference": space.reference.data.astype(np.float32),
                "affine": space.reference.affine,
                "mask": space.mask_XYZ,
                **{name: values for name, values in of_voxels.items() if values is not None},
            },
        )
        write_tensors(
            folder / _STATISTICS,
            {"mean": statistics.mean_V, "std": statistics.std_V, "n": np.array([statistics.n], np.int64)},
        )
        self.pool.save(folder / "pool")
        if self.index is not None:
            self.index.save(folder / "pool" / INDEX)
        if isinstance(self.decoder, LinearDecoder):
            self.decoder.save(folder / _DECODER)
        else:
            shutil.copyfile(self.decoder, folder / _DECODER)

    def _described(self) -> dict[str, Any]:
        return _Description(
            version=VERSION,
            kind=self.kind,
            subject=self.subject,
            created=self.created,
            tr_s=self.space.reference.tr_s,
            options=self.options,
            calibration=self.calibration,
            baseline=self.baseline,
            labels=self.labels,
            accuracy=self.accuracy,
            pool=_PoolInfo(size=len(self.pool), digest=self.pool.digest),
            files={},
            digest="",
        ).model_dump(mode="json")


class _PoolInfo(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    digest: str


class _Description(BaseModel):
    """bundle.json. ``files`` is path -> sha256; ``digest`` is the sha256 of all else in here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    kind: Kind
    subject: str
    created: str
    tr_s: float
    options: IngestOptions
    calibration: Calibration
    baseline: Baseline | None = None
    labels: str | None
    accuracy: Accuracy | None
    pool: _PoolInfo
    files: dict[str, str]
    digest: str


def _read_description(folder: Path) -> _Description:
    try:
        raw = json.loads((folder / _BUNDLE).read_text(encoding="utf-8"))
        version = raw["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelMismatch(
            f"expected a bundle folder with a {_BUNDLE}: {type(error).__name__}", code="bundle.unreadable"
        ) from None
    if version != VERSION:
        raise ModelMismatch(
            f"expected a bundle of version {VERSION}, got {version!r}: calibrate again", code="bundle.version"
        )
    try:
        described = _Description.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelMismatch(
            f"expected a valid {_BUNDLE}: {'.'.join(map(str, first['loc']))}: {first['msg']}", code="bundle.unreadable"
        ) from None
    if described.digest != _digest(raw):
        raise _tampered(_BUNDLE, "not what its digest says")
    return described


def _reference(space: Mapping[str, NDArray[Any]], tr_s: float) -> Volume:
    return Volume(np.array(space["reference"]), np.array(space["affine"]), tr_s, run=1, index=0)


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {_BUNDLE}
    for name in sorted(present ^ set(files)):
        raise _tampered(name, "not in the manifest" if name in present else "missing")
    for name, digest in sorted(files.items()):
        if _sha256(folder / name) != digest:
            raise _tampered(name, "not what its digest says")


def _tampered(name: str, what: str) -> ModelMismatch:
    return ModelMismatch(
        f"expected the bundle as it was written, {name} is {what}: restore the folder or calibrate again",
        code="bundle.tampered",
        file=name,
    )


def _digest(described: Mapping[str, Any]) -> str:
    content = {name: value for name, value in described.items() if name != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
