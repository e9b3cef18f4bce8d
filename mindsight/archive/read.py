"""A session's archive read back: what was shown, the results, the reconstructions and the final betas.

Knows nothing of decoders or of the service. Letters: K trials, V voxels of the session's mask.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.archive.names import (
    DERIVED,
    EVENTS,
    MASK,
    PROVENANCE,
    RAWDATA,
    REGISTRATION,
    RESULTS,
    STIMULI,
    effect_maps,
    reconstruction_of,
    run_of,
    table_beside,
)
from mindsight.errors import BadRequest
from mindsight.events import NOT_AVAILABLE
from mindsight.stages import Stage

_SESSION = "sub-*/ses-*"


@dataclass(frozen=True, slots=True)
class ShownTrial:
    """A trial that was to be decoded, and what it showed.

    candidate : id in the pool; None if unknown
    image : file of the image; None if it was not recorded
    """

    run: int
    trial: int
    candidate: str | None
    label: str | None
    image: Path | None

    @property
    def key(self) -> tuple[int, int]:
        return self.run, self.trial

    @property
    def truth(self) -> str | None:
        """Id of the right candidate; in a pool of classes, the label."""
        return self.candidate or self.label


@dataclass(frozen=True, eq=False)
class DecodedSession:
    """One archived session.

    results : (run, trial, stage) -> the result, with the fields of ``protocol.messages.Result``
    reconstructions : (run, trial, stage) -> file of the reconstruction
    """

    name: str
    trials: Sequence[ShownTrial]
    results: Mapping[tuple[int, int, Stage], Mapping[str, Any]]
    reconstructions: Mapping[tuple[int, int, Stage], Path]


@dataclass(frozen=True, eq=False)
class FinalBeta:
    """(V,) a trial's final beta, and the mean and standard deviation of its run's final betas."""

    beta_V: NDArray[np.float32]
    mean_V: NDArray[np.float32]
    std_V: NDArray[np.float32]


def is_archive(folder: Path) -> bool:
    """Whether the folder is the archive of a session."""
    return (folder / RAWDATA).is_dir() and (folder / DERIVED).is_dir()


def read_session(archive: Path) -> DecodedSession:
    """Read an archive; images stay in their files.

    Raises BadRequest (``archive.answers``) without results, or with a line that is none.
    """
    files = sorted((archive / DERIVED).glob(f"{_SESSION}/func/*_{RESULTS}"))
    if len(files) != 1:
        raise BadRequest(
            f"expected the archive of one session with results in {archive.name}, got {len(files)} tables of results",
            code="archive.answers",
        )
    results = _results(files[0])
    reconstructions = {}
    for path in files[0].parent.parent.glob("images/*_reconstruction.*"):
        key = reconstruction_of(path.name)
        if key is not None:
            reconstructions[key] = path
    return DecodedSession(archive.name, list(_trials(archive / RAWDATA)), results, reconstructions)


def _results(table: Path) -> dict[tuple[int, int, Stage], Mapping[str, Any]]:
    results = {}
    for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            results[row["run"], row["trial"], row["stage"]] = row["result"]
        except (ValueError, KeyError, TypeError):
            raise BadRequest(
                f"expected a result in line {number} of {table.name}, got something else: export the session again, or"
                " restore the file from a backup",
                code="archive.answers",
            ) from None
    return results


def read_bundle_digests(archive: Path) -> list[str]:
    """Digests of the bundles that the session was decoded with."""
    provenance = json.loads((archive / DERIVED / PROVENANCE).read_text(encoding="utf-8"))
    return list(provenance["models"])


def read_final_betas(archive: Path) -> dict[tuple[int, int], FinalBeta]:
    """(run, trial) -> its final beta."""
    derived = archive / DERIVED
    betas: dict[tuple[int, int], FinalBeta] = {}
    mask_XYZ = _read_image(next(derived.glob(f"{_SESSION}/func/*_{MASK}"))) > 0
    for path in derived.glob(f"{_SESSION}/func/*_{effect_maps('final')}"):
        betas_KV = _read_image(path)[mask_XYZ].T
        mean_V, std_V = betas_KV.mean(axis=0), betas_KV.std(axis=0)
        for row in _read_table(table_beside(path)):
            betas[run_of(path.name), int(row["trial"])] = FinalBeta(betas_KV[int(row["volume"])], mean_V, std_V)
    return betas


def read_shown(archive: Path) -> list[ShownTrial]:
    """The trials that were to be decoded, whether or not they were."""
    return list(_trials(archive / RAWDATA))


def read_session_name(archive: Path) -> tuple[str, str]:
    """Labels of the subject and the session. Raises BadRequest (``archive.answers``) for several sessions."""
    folders = list((archive / DERIVED).glob(_SESSION))
    if len(folders) != 1:
        raise BadRequest(
            f"expected the archive of one session in {archive.name}, got {len(folders)}", code="archive.answers"
        )
    return folders[0].parent.name.removeprefix("sub-"), folders[0].name.removeprefix("ses-")


def read_mask(archive: Path) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The session's mask (X, Y, Z), and its affine."""
    import nibabel

    image: Any = nibabel.load(next((archive / DERIVED).glob(f"{_SESSION}/func/*_{MASK}")))
    return np.asarray(image.dataobj) > 0, np.asarray(image.affine, np.float64)


def read_registrations(archive: Path) -> dict[int, Mapping[str, Any]]:
    """Run -> how it was registered to the subject's reference, as ``ArchivedRegistration.details``."""
    found = (archive / DERIVED).glob(f"{_SESSION}/func/*_{REGISTRATION}.json")
    held = {run_of(path.name): json.loads(path.read_text(encoding="utf-8")) for path in found}
    return dict(sorted(held.items()))


def _trials(rawdata: Path) -> Iterator[ShownTrial]:
    for path in sorted(rawdata.glob(f"{_SESSION}/func/*_{EVENTS}"), key=lambda path: run_of(path.name)):
        for row in _read_table(path):
            known = {name: value for name, value in row.items() if value not in (NOT_AVAILABLE, "")}
            if known.get("trial") is None:
                continue
            image = None if known.get("stim_file") is None else rawdata / STIMULI / known["stim_file"]
            yield ShownTrial(
                run_of(path.name),
                int(known["trial"]),
                known.get("candidate"),
                known.get("trial_type"),
                image if image is not None and image.is_file() else None,
            )


def _read_table(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")


def _read_image(path: Path) -> NDArray[np.float32]:
    import nibabel

    image: Any = nibabel.load(path)
    return np.asarray(image.dataobj, dtype=np.float32)
