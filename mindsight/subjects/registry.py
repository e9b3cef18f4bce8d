"""Enrolled subjects: random pseudonyms, the bundle that decodes each, and what the subject's data may be used for.

Holds no names, birthdays or other identifying data: the table from person to pseudonym is kept elsewhere, by those who
are authorised to have it.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mindsight.errors import BadRequest, Conflict, NotFound
from mindsight.files.durable import make_folder, storage_errors, write_durably
from mindsight.files.stored import read_stored

_PSEUDONYM = re.compile(r"sub-[a-z0-9]{6}")
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without letters that look alike


Use = Literal["decoding", "calibration", "pretraining", "export"]
Users = Literal["laboratory", "institution", "public"]


class Consent(BaseModel):
    """What the subject has agreed to, as the signed form states it. Never who the subject is.

    A use that is not listed was not agreed to. An empty list withdraws everything.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    uses: dict[Use, Users] = Field(description="what the data may be used for, each with the widest circle of users")
    form: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="version of the form that was signed; never a name"
    )
    until_t: float | None = Field(default=None, description="seconds since the Unix epoch; null: no end was agreed")


class Subject(BaseModel):
    """An enrolled subject. ``bundle`` is the name of its bundle, None before calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    bundle: str | None = None
    enrolled_t: float
    consent: Consent | None = Field(default=None, description="null: not stated; sessions are then decoded, no more")

    def check_use(self, use: Use, now: float) -> None:
        """Raises Conflict (``consent.missing``, ``consent.refused``, ``consent.ended``) if the data may not be used so.

        A session is also decoded where nothing is stated: a laboratory may keep its consent forms elsewhere.
        """
        if self.consent is None:
            if use == "decoding":
                return
            raise Conflict(
                f"expected a stated consent to {use}, got none: state it with PUT /v1/subjects/{self.subject}/consent",
                code="consent.missing",
            )
        if use not in self.consent.uses:
            raise Conflict(
                f"expected consent to {use}, the subject has not agreed to it (form {self.consent.form})",
                code="consent.refused",
            )
        if self.consent.until_t is not None and now > self.consent.until_t:
            raise Conflict(
                "expected a consent that holds, got one that has ended: ask the subject again", code="consent.ended"
            )


class Registry:
    """A folder with one small file per subject."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def enrol(self, enrolled_t: float, bundle: str | None = None, consent: Consent | None = None) -> Subject:
        """A new subject under an unused pseudonym; it is on the disk when this returns."""
        with storage_errors("a subject"):
            make_folder(self._root)
        while True:
            pseudonym = "sub-" + "".join(secrets.choice(_LETTERS) for _ in range(6))
            try:
                with storage_errors("a subject"):
                    os.close(os.open(self._path(pseudonym), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                continue
            subject = Subject(subject=pseudonym, bundle=bundle, enrolled_t=enrolled_t, consent=consent)
            self._write(subject)
            return subject

    def get(self, subject: str) -> Subject:
        """Raises NotFound, BadRequest (``data.unreadable``)."""
        found = None
        if _PSEUDONYM.fullmatch(subject):
            with suppress(FileNotFoundError):
                found = read_stored(self._path(subject), _parse, "a subject")
        if found is None:
            raise NotFound("there is no such subject; enrol it first", code="subject.unknown")
        return found

    def list(self) -> list[Subject]:
        """All of them that can be read, in the order of their enrolment."""
        subjects = []
        for path in self._root.glob("sub-*.json"):
            with suppress(NotFound, BadRequest):
                subjects.append(self.get(path.stem))
        return sorted(subjects, key=lambda subject: (subject.enrolled_t, subject.subject))

    def set_bundle(self, subject: str, bundle: str | None) -> Subject:
        """From now on this bundle decodes the subject, or none. Raises NotFound."""
        changed = self.get(subject).model_copy(update={"bundle": bundle})
        self._write(changed)
        return changed

    def set_consent(self, subject: str, consent: Consent) -> Subject:
        """State what the subject has agreed to, in place of what was stated before. Raises NotFound."""
        changed = self.get(subject).model_copy(update={"consent": consent})
        self._write(changed)
        return changed

    def erase(self, subject: str) -> None:
        """Remove the subject; its pseudonym is unknown from now on."""
        if _PSEUDONYM.fullmatch(subject):
            self._path(subject).unlink(missing_ok=True)

    def _path(self, subject: str) -> Path:
        return self._root / f"{subject}.json"

    def _write(self, subject: Subject) -> None:
        write_durably(self._path(subject.subject), subject.model_dump_json().encode())


def _parse(content: bytes) -> Subject | None:
    """None of a file that is empty: its pseudonym was taken, and the process ended before it wrote the subject."""
    return Subject.model_validate_json(content) if content else None
