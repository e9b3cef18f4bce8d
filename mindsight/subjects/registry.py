"""Enrolled subjects: random pseudonyms, and the bundle that decodes each.

Holds no names, birthdays or other identifying data: the table from person to pseudonym is kept elsewhere, by those who
are authorised to have it.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mindsight.errors import NotFound
from mindsight.files.durable import write_durably

_PSEUDONYM = re.compile(r"sub-[a-z0-9]{6}")
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without letters that look alike


class Subject(BaseModel):
    """An enrolled subject. ``bundle`` is the name of its bundle, None before calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    bundle: str | None = None
    enrolled_t: float


class Registry:
    """A folder with one small file per subject."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def enrol(self, enrolled_t: float, bundle: str | None = None) -> Subject:
        """A new subject under an unused pseudonym; it is on the disk when this returns."""
        self._root.mkdir(parents=True, exist_ok=True)
        while True:
            pseudonym = "sub-" + "".join(secrets.choice(_LETTERS) for _ in range(6))
            try:
                os.close(os.open(self._path(pseudonym), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                continue
            subject = Subject(subject=pseudonym, bundle=bundle, enrolled_t=enrolled_t)
            self._write(subject)
            return subject

    def get(self, subject: str) -> Subject:
        """Raises NotFound."""
        if _PSEUDONYM.fullmatch(subject):
            try:
                return Subject.model_validate_json(self._path(subject).read_bytes())
            except (FileNotFoundError, ValueError):  # not there, or a pseudonym taken but never written
                pass
        raise NotFound("there is no such subject; enrol it first", code="subject.unknown")

    def list(self) -> list[Subject]:
        """All of them, in the order of their enrolment."""
        written = (path.read_bytes() for path in self._root.glob("sub-*.json"))
        subjects = [Subject.model_validate_json(text) for text in written if text]
        return sorted(subjects, key=lambda subject: (subject.enrolled_t, subject.subject))

    def set_bundle(self, subject: str, bundle: str) -> Subject:
        """From now on this bundle decodes the subject. Raises NotFound."""
        changed = self.get(subject).model_copy(update={"bundle": bundle})
        self._write(changed)
        return changed

    def _path(self, subject: str) -> Path:
        return self._root / f"{subject}.json"

    def _write(self, subject: Subject) -> None:
        write_durably(self._path(subject.subject), subject.model_dump_json().encode())
