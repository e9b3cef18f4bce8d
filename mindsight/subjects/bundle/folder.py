"""The subject bundle: a folder with everything that decodes one subject, and the proof that it is unchanged.

Knows nothing of sessions, scanners or networks. Nothing in it is executable: JSON, safetensors and PNG.

Letters: XYZ the reference's grid, V voxels of the mask (in C order of the grid), N candidates.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mindsight.accuracy import Accuracy
from mindsight.decoders.base import DecoderWeights
from mindsight.errors import Conflict, ModelMismatch
from mindsight.files.durable import publish_folder
from mindsight.glm import Statistics
from mindsight.ingest import IngestOptions
from mindsight.ingest.space import SubjectSpace
from mindsight.posterior.errors import DecodingErrors
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.retrieval import Calibration, CandidatePool, ReducedIndex
from mindsight.subjects.bundle.decoder import Sampling, read_decoder
from mindsight.subjects.bundle.description import (
    VERSION,
    invalid_description,
    read_description,
    verify_files,
    write_description,
)
from mindsight.subjects.bundle.fit import FitCalibration
from mindsight.subjects.bundle.pool import read_pool, write_pool
from mindsight.subjects.bundle.space import check_voxels, read_space, write_space


def require_new(folder: Path) -> None:
    """Raises Conflict (``bundle.exists``) if the folder exists, so that no bundle can be saved there."""
    if folder.exists():
        raise Conflict(
            f"expected a new folder for the bundle, {folder.name} exists: name another or remove it",
            code="bundle.exists",
        )


@dataclass(frozen=True)
class _Parts:
    """The parts of the description whose fields other rooms define."""

    options: IngestOptions
    calibration: Calibration
    baseline: Baseline | None
    accuracy: Accuracy | None
    sampling: Sampling
    fit: FitCalibration | None


_PARTS, _CALIBRATION, _ACCURACY = TypeAdapter(_Parts), TypeAdapter(Calibration), TypeAdapter(Accuracy)
_FIT = TypeAdapter(FitCalibration)


@dataclass(frozen=True, eq=False, kw_only=True)
class Bundle:
    """Everything that decodes one subject.

    subject : pseudonym
    created : UTC, ISO 8601
    options : how betas are estimated, fixed at calibration: a decoder fits only betas made as those it was trained on
    space : the volume that others are aligned to, with the TR of the calibration runs, and the V voxels in it
    statistics : of the calibration betas
    calibration : from scores to probabilities
    labels : column of the events that named the candidates, None if the events named images
    baseline : signal and tSNR of the calibration runs in the mask, None if they were not measured
    accuracy : leave-one-run-out, at calibration; None if it was not measured
    decoder : its weights; the process that decodes builds the decoder from them
    sampling : how reconstructions are made
    fit : how well reconstructions of other trials fit a trial's tokens; None if it was not calibrated
    errors : of decoded features, at calibration; None if they were not measured
    index : sketches of a pool too large to be read for every trial; None: the whole pool is read
    folder : where it was loaded from; None until it is saved
    digest : sha256 over everything in the folder; empty until it is saved
    """

    subject: str
    created: str
    options: IngestOptions
    space: SubjectSpace
    statistics: Statistics
    calibration: Calibration
    pool: CandidatePool
    decoder: DecoderWeights
    sampling: Sampling = field(default_factory=Sampling)
    fit: FitCalibration | None = None
    errors: DecodingErrors | None = None
    index: ReducedIndex | None = None
    baseline: Baseline | None = None
    labels: str | None = None
    accuracy: Accuracy | None = None
    folder: Path | None = None
    digest: str = ""

    @property
    def kind(self) -> str:
        """The decoder's kind, as in the registry of decoders."""
        return self.decoder.kind

    @property
    def pool_digest(self) -> str:
        """sha256 of the pool's ids, labels and embeddings."""
        return self.pool.digest

    def save(self, folder: Path, also: Callable[[Path], object] | None = None) -> Bundle:
        """Write into a folder that does not exist yet, whole or not at all; returns the bundle as ``load`` reads it.

        also : writes more files into the folder, which are hashed with the bundle

        Raises Conflict (``bundle.exists``), and ModelMismatch if the parts do not fit each other.
        """
        self._check()
        require_new(folder)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._write_parts(partial)
        if also is not None:
            also(partial)
        write_description(partial, self._described())
        publish_folder(partial, folder)
        return Bundle.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle and verify every byte, except those of very large files (``files.manifest.MAX_HASHED_BYTES``).

        ``space.load_space`` reads only what ingest needs, ``pool.load_pool`` only the pool, and
        ``description.read_description`` only the description.

        Raises ModelMismatch: ``bundle.unreadable``, ``bundle.version``, ``bundle.tampered`` if a file is missing,
        added or not what it was, ``bundle.invalid`` if the parts do not fit each other.
        """
        described = read_description(folder)
        verify_files(folder, described)
        calibrated = read_space(folder, described)
        try:
            calibration = _CALIBRATION.validate_python(described.calibration)
            accuracy = None if described.accuracy is None else _ACCURACY.validate_python(described.accuracy)
            fit = None if described.fit is None else _FIT.validate_python(described.fit)
        except ValidationError as error:
            raise invalid_description(error) from None
        pool, index = read_pool(folder)
        decoder, sampling = read_decoder(folder, described)
        bundle = cls(
            subject=described.subject,
            created=described.created,
            options=calibrated.options,
            space=calibrated.space,
            statistics=calibrated.statistics,
            calibration=calibration,
            pool=pool,
            decoder=decoder,
            sampling=sampling,
            fit=fit,
            errors=DecodingErrors.load(folder),
            index=index,
            baseline=calibrated.baseline,
            labels=described.labels,
            accuracy=accuracy,
            folder=folder,
            digest=described.digest,
        )
        bundle._check()
        return bundle

    def _check(self) -> None:
        sizes = {"mean": len(self.statistics.mean_V), "standard deviation": len(self.statistics.std_V)}
        if self.decoder.n_voxels is not None:
            sizes["decoder"] = self.decoder.n_voxels
        check_voxels(self.space, sizes)
        if self.decoder.shape not in (None, self.pool.token_shape):
            raise ModelMismatch(
                f"expected a decoder into the pool's embeddings {self.pool.token_shape}, got {self.decoder.shape}",
                code="bundle.invalid",
            )
        if self.errors is not None and self.errors.tokens_D.size != self.pool.flat_ND.shape[1]:
            raise ModelMismatch(
                f"expected decoding errors of the pool's embeddings {self.pool.token_shape}, got them of"
                f" {self.errors.tokens_D.size} numbers: calibrate again",
                code="bundle.invalid",
            )
        if self.sampling.in_pool_prior is not None and self.errors is None:
            raise ModelMismatch(
                "expected decoding errors in a bundle whose reconstructions are guided by the ranking, got none:"
                " calibrate again, or leave in_pool_prior out of its sampling",
                code="bundle.invalid",
            )

    def _write_parts(self, folder: Path) -> None:
        write_space(folder, self.space, self.statistics)
        write_pool(folder, self.pool, self.index)
        self.decoder.save(folder)
        if self.errors is not None:
            self.errors.save(folder)

    def _described(self) -> dict[str, Any]:
        parts = _Parts(self.options, self.calibration, self.baseline, self.accuracy, self.sampling, self.fit)
        return {
            "version": VERSION,
            "kind": self.kind,
            "subject": self.subject,
            "created": self.created,
            "tr_s": self.space.reference.tr_s,
            "labels": self.labels,
            "pool": {"size": len(self.pool), "digest": self.pool.digest},
            **_PARTS.dump_python(parts, mode="json"),
        }
