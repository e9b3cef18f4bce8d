"""The versions of a subject's bundle: each is a bundle of its own, hashed, never changed; one is active.

Light: neither arrays nor models are imported, so that the gateway can use it. Knows nothing of how versions are made.

A version's bundle is ``<subject>.v<number>``. The active one decodes the sessions that are opened from now on; each
session names the bundle that it uses. What was active before is kept, so that a rollback goes back in the order in
which versions were activated. Of the versions that are not active the last ``KEPT`` are kept, and those that an
unfinished session uses; older ones are removed, and their row stays with the digest.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mindsight.errors import Conflict, DeadlineExceeded, NotFound
from mindsight.files.durable import make_folder, write_durably
from mindsight.files.stored import read_stored
from mindsight.subjects.bundle.description import read_description
from mindsight.subjects.registry import Registry, Subject

KEPT = 5
_LOCK_S = 10.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Frozen):
    """Accuracy of the first candidate on trials that the decoder was not fitted to: right of ``n``."""

    accuracy: float
    low: float
    high: float
    n: int
    chance: float


class Version(_Frozen):
    """One version of a subject's bundle."""

    number: int = Field(ge=1)
    bundle: str = Field(description="the name under which a session uses it")
    digest: str = Field(description="sha256 over everything in it")
    created_t: float
    job: str | None = Field(default=None, description="the calibration that made it")
    source: str = Field(default="", description="what of that calibration, so that a repeat makes no second one")
    sessions: tuple[str, ...] = Field(default=(), description="that its trials come from")
    n_trials: int = Field(default=0, ge=0)
    n_runs: int = Field(default=0, ge=0)
    measured: Measured | None = None
    verdict: str = Field(default="", description="why it replaced the version before it, or did not")
    removed: bool = Field(default=False, description="its files are gone: see KEPT, or a session of it was erased")


class Versions(_Frozen):
    """Of one subject. ``activated`` : numbers in the order in which they became active; the last one is active."""

    subject: str
    versions: tuple[Version, ...] = ()
    activated: tuple[int, ...] = ()

    @property
    def active(self) -> Version | None:
        return self.get(self.activated[-1]) if self.activated else None

    def get(self, number: int) -> Version:
        """Raises NotFound (``version.unknown``)."""
        for version in self.versions:
            if version.number == number:
                return version
        raise NotFound(f"there is no version {number} of this subject's bundle", code="version.unknown")


@dataclass(frozen=True)
class VersionStore:
    """The versions of all subjects of one data folder. May be used by several processes at once.

    root : folder of the lists; bundles_dir : folder of all bundles
    """

    root: Path
    bundles_dir: Path
    registry: Registry

    def read(self, subject: str) -> Versions:
        """Raises NotFound (``subject.unknown``), BadRequest (``data.unreadable``)."""
        self.registry.get(subject)
        try:
            return read_stored(self._path(subject), Versions.model_validate_json, "versions of a bundle")
        except FileNotFoundError:
            return Versions(subject=subject)

    def next_folder(self, subject: str) -> tuple[int, Path]:
        """Number and folder of a version to be saved; whoever saves it holds the subject's calibration."""
        numbers = [version.number for version in self.read(subject).versions]
        number = max(numbers, default=0) + 1
        folder = self.bundles_dir / name_of(subject, number)
        if folder.exists():  # saved by a job that was killed before it was listed
            shutil.rmtree(folder)
        return number, folder

    def add(self, version: Version, subject: str, *, activate: bool) -> Versions:
        """List a version whose bundle is saved, and make it active if asked."""
        with self._locked(subject):
            held = self.read(subject)
            activated = (*held.activated, version.number) if activate else held.activated
            written = self._write(
                held.model_copy(update={"versions": (*held.versions, version), "activated": activated})
            )
            if activate:
                self.registry.set_bundle(subject, version.bundle)
            return written

    def activate(self, subject: str, number: int) -> Subject:
        """From now on this version decodes the subject's new sessions. Repeating it changes nothing.

        Raises NotFound (``version.unknown``), Conflict (``version.removed``), ModelMismatch if its description is not
        what was written.
        """
        with self._locked(subject):
            held = self.read(subject)
            version = held.get(number)
            self._check(version)
            if not held.activated or held.activated[-1] != number:
                self._write(held.model_copy(update={"activated": (*held.activated, number)}))
            return self.registry.set_bundle(subject, version.bundle)

    def roll_back(self, subject: str) -> Subject:
        """Make the version active that was active before the present one.

        Raises Conflict (``version.first``) if there was none, and as ``activate``.
        """
        with self._locked(subject):
            held = self.read(subject)
            if len(held.activated) < 2:
                raise Conflict(
                    "expected a version that was active before, got none: there is nothing to go back to",
                    code="version.first",
                )
            version = held.get(held.activated[-2])
            self._check(version)
            self._write(held.model_copy(update={"activated": held.activated[:-1]}))
            return self.registry.set_bundle(subject, version.bundle)

    def clear(self, subject: str, in_use: Collection[str]) -> list[Version]:
        """Remove the files of versions that are no longer kept; returns these versions.

        in_use : bundles that unfinished sessions use
        """
        with self._locked(subject):
            held = self.read(subject)
            there = [version for version in held.versions if not version.removed]
            recent = {version.number for version in there[-KEPT:]} | set(held.activated[-2:])
            old = [v for v in there if v.number not in recent and v.bundle not in in_use]
            if old:
                gone = {version.number for version in old}
                marked = tuple(v.model_copy(update={"removed": True}) if v.number in gone else v for v in held.versions)
                activated = tuple(number for number in held.activated if number not in gone)
                self._write(held.model_copy(update={"versions": marked, "activated": activated}))
                for version in old:
                    shutil.rmtree(self.bundles_dir / version.bundle, ignore_errors=True)
            return old

    def erase_session(self, subject: str, session: str) -> int:
        """Remove the versions that were made from this session, and its name; how many these are.

        The active version is then the last of those that were active and are left; without one the subject has none.
        """
        with self._locked(subject):
            held = self.read(subject)
            of = {version.number for version in held.versions if session in version.sessions}
            left = held.model_copy(update={"activated": tuple(n for n in held.activated if n not in of)})
            if self.registry.get(subject).bundle in {name_of(subject, number) for number in of}:
                self.registry.set_bundle(subject, left.active.bundle if left.active else None)
            for number in of:
                shutil.rmtree(self.bundles_dir / name_of(subject, number), ignore_errors=True)
            blank = {"sessions": (), "source": "", "removed": True}
            versions = tuple(v.model_copy(update=blank) if v.number in of else v for v in held.versions)
            if of:  # last: what was interrupted before is found again
                self._write(left.model_copy(update={"versions": versions}))
            return len(of)

    def erase(self, subject: str) -> None:
        """Remove all versions and their list. The subject itself may be gone already."""
        for folder in self.bundles_dir.glob(f"{subject}.v*"):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.root.glob(f"{subject}.*"):
            path.unlink(missing_ok=True)

    def _check(self, version: Version) -> None:
        if version.removed or not (self.bundles_dir / version.bundle).exists():
            raise Conflict(
                f"expected a version whose files are kept, got version {version.number}, whose files were removed;"
                " calibrate again",
                code="version.removed",
            )
        if read_description(self.bundles_dir / version.bundle).digest != version.digest:
            raise Conflict(
                f"expected version {version.number} as it was made, got another bundle in its place; restore it",
                code="version.changed",
            )

    def _path(self, subject: str) -> Path:
        return self.root / f"{subject}.versions.json"

    def _write(self, versions: Versions) -> Versions:
        write_durably(self._path(versions.subject), versions.model_dump_json(indent=1).encode())
        return versions

    @contextmanager
    def _locked(self, subject: str) -> Iterator[None]:
        """One writer of a subject's list at a time, among all processes of this machine. Raises DeadlineExceeded."""
        self.registry.get(subject)
        make_folder(self.root)
        lock = os.open(self.root / f"{subject}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until_s = time.monotonic() + _LOCK_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until_s:
                        raise DeadlineExceeded(
                            f"expected the subject's versions within {_LOCK_S:g} s, another process holds them: try"
                            " again",
                            code="version.locked",
                        ) from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(lock)


def name_of(subject: str, number: int) -> str:
    """The name of a version's bundle."""
    return f"{subject}.v{number}"
