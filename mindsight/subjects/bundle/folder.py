"""The subject bundle: a folder with everything that decodes one person's brain, and the proof that it is unchanged.

Knows nothing of sessions, scanners or networks. Nothing in it is executable: JSON, safetensors and PNG.

Letters: XYZ the reference's grid, V voxels of the mask (in C order of the grid), N candidates.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mindsight.accuracy import Accuracy
from mindsight.decoders.linear.decoder import LinearDecoder
from mindsight.errors import Conflict, ModelMismatch
from mindsight.files.durable import publish_folder
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.retrieval import Calibration, CandidatePool, ReducedIndex
from mindsight.retrieval.sketch import INDEX
from mindsight.subjects.bundle.description import (
    POOL,
    VERSION,
    Kind,
    invalid_description,
    read_description,
    verify_files,
    write_description,
)
from mindsight.subjects.bundle.space import check_voxels, read_space, write_space

_DECODER = "decoder.safetensors"


def require_new(folder: Path) -> None:
    """Raises Conflict (``bundle.exists``) where no bundle can be saved because something is there."""
    if folder.exists():
        raise Conflict(
            f"expected a new folder for the bundle, {folder.name} exists: name another or remove it",
            code="bundle.exists",
        )


@dataclass(frozen=True)
class _Parts:
    """What other rooms define, as it stands in the description."""

    options: IngestOptions
    calibration: Calibration
    baseline: Baseline | None
    accuracy: Accuracy | None


_PARTS, _CALIBRATION, _ACCURACY = TypeAdapter(_Parts), TypeAdapter(Calibration), TypeAdapter(Accuracy)


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
    space: SubjectSpace
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
        require_new(folder)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._write_parts(partial)
        write_description(partial, self._described())
        publish_folder(partial, folder)
        return Bundle.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle and verify it: every byte, but for files too large (``files.manifest.MAX_HASHED_BYTES``).

        ``space.load_space`` reads what ingest needs, and ``description.read_description`` what can be said of a bundle
        without loading it.

        Raises ModelMismatch: ``bundle.unreadable``, ``bundle.version``, ``bundle.tampered`` where a file is missing,
        added or not what it was, ``bundle.invalid`` where the parts do not fit each other.
        """
        described = read_description(folder)
        verify_files(folder, described)
        calibrated = read_space(folder, described)
        try:
            calibration = _CALIBRATION.validate_python(described.calibration)
            accuracy = None if described.accuracy is None else _ACCURACY.validate_python(described.accuracy)
        except ValidationError as error:
            raise invalid_description(error) from None
        pool = CandidatePool.load(folder / POOL)
        bundle = cls(
            kind=described.kind,
            subject=described.subject,
            created=described.created,
            options=calibrated.options,
            space=calibrated.space,
            statistics=calibrated.statistics,
            calibration=calibration,
            pool=pool,
            decoder=LinearDecoder.load(folder / _DECODER) if described.kind == "linear" else folder / _DECODER,
            index=ReducedIndex.beside(folder / POOL, pool),
            baseline=calibrated.baseline,
            labels=described.labels,
            accuracy=accuracy,
            folder=folder,
            digest=described.digest,
        )
        bundle._check()
        return bundle

    def _check(self) -> None:
        decoded = len(self.decoder.weights_VD) if isinstance(self.decoder, LinearDecoder) else self.space.n_voxels
        sizes = {"mean": len(self.statistics.mean_V), "standard deviation": len(self.statistics.std_V)}
        check_voxels(self.space, sizes | {"decoder": decoded})
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
        write_space(folder, self.space, self.statistics)
        self.pool.save(folder / POOL)
        if self.index is not None:
            self.index.save(folder / POOL / INDEX)
        if isinstance(self.decoder, LinearDecoder):
            self.decoder.save(folder / _DECODER)
        else:
            shutil.copyfile(self.decoder, folder / _DECODER)

    def _described(self) -> dict[str, Any]:
        plain = _PARTS.dump_python(_Parts(self.options, self.calibration, self.baseline, self.accuracy), mode="json")
        return {
            "version": VERSION,
            "kind": self.kind,
            "subject": self.subject,
            "created": self.created,
            "tr_s": self.space.reference.tr_s,
            "labels": self.labels,
            "pool": {"size": len(self.pool), "digest": self.pool.digest},
            **plain,
        }
