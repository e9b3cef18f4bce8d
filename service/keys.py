"""API keys and their permissions. A key is ``ms_<id>_<secret>``; only the secret's sha256 is kept.

Knows nothing of HTTP. The hash is sha256, no slow password hash: the secret is 256 random bits,
not chosen by a person.
"""

from __future__ import annotations

import fcntl
import hmac
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter

from mindsight.errors import BadRequest, NotAllowed, NotFound
from mindsight.files.digest import sha256_of
from mindsight.files.durable import make_folder, write_durably
from mindsight.files.stored import read_stored

Scope = Literal[
    "subjects:write",
    "subjects:export",
    "sessions:control",
    "volumes:write",
    "events:read",
    "truth:read",
    "feedback:read",
    "admin",
]
Role = Literal["admin", "experimenter", "console", "viewer", "participant"]

ROLES: dict[Role, frozenset[Scope]] = {
    "admin": frozenset(get_args(Scope)),
    "experimenter": frozenset(get_args(Scope)) - {"admin"},
    "console": frozenset({"subjects:write", "sessions:control", "volumes:write"}),
    "viewer": frozenset({"events:read"}),
    "participant": frozenset({"feedback:read"}),
}
PURPOSES: dict[Role, str] = {
    "admin": "everything, and keys, audit and erasure: for whoever runs the service",
    "experimenter": "opens, steers and watches sessions, and sees what was shown: for the control room",
    "console": "sends volumes and events, reads nothing: for the scanner's console and the stimulus computer",
    "viewer": "watches, and never sees what was shown: for a blinded observer",
    "participant": "shows what the experimenter feeds back, and nothing else: for the screen in the scanner room",
}
"""What a person gives each key to."""
TICKET_S = 30.0
OF_ISSUER = "oidc-"  # begins the id of what an identity provider has signed
MAX_NOTE = 100
_KEY = re.compile(r"ms_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")


class Key(BaseModel):
    """What is stored of a key.

    session : the only one that it opens; None: all of them
    expires_t : seconds since the Unix epoch; None: never
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    role: Role
    sha256: str
    created_t: float
    note: str = ""
    session: str | None = None
    expires_t: float | None = None

    @property
    def scopes(self) -> frozenset[Scope]:
        return ROLES[self.role]

    @property
    def is_of_issuer(self) -> bool:
        """Whether it is a token of the site's identity provider, which is stored nowhere."""
        return self.id.startswith(OF_ISSUER)


_FILE: TypeAdapter[list[Key]] = TypeAdapter(list[Key])


class KeyStore:
    """The keys of one data folder, in ``keys.json`` (mode 0600), and the tickets for WebSockets made from them.

    Several processes may change them: the gateway, and ``mindsight key`` beside it, which the gateway follows at once.
    """

    def __init__(self, data_dir: Path, issuer: Callable[[str], Key] | None = None) -> None:
        """issuer : takes what is no key of ours, and returns it as one; None: there are no others"""
        self._path, self._issuer = data_dir / "keys.json", issuer
        self._lock = threading.RLock()
        self._read: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}
        self._tickets: dict[str, tuple[Key, float]] = {}
        self._follow()

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def mint(
        self, role: Role, note: str = "", *, session: str | None = None, ttl_s: float | None = None
    ) -> tuple[Key, str]:
        """Make a key: what is stored of it, and the key itself, which is stored nowhere. Expired keys are removed.

        note : whom or what it is for, to know it by in a list
        session, ttl_s : for one session, for so long; None: for all, without an end
        """
        secret, now = secrets.token_urlsafe(32), time.time()
        key = Key(
            id=secrets.token_hex(4),
            role=role,
            sha256=sha256_of(secret.encode()),
            created_t=now,
            note=note[:MAX_NOTE],
            session=session,
            expires_t=None if ttl_s is None else now + ttl_s,
        )
        with self._changing():
            self._write({id: held for id, held in {**self._keys, key.id: key}.items() if not _has_expired(held)})
        return key, f"ms_{key.id}_{secret}"

    def revoke(self, id: str) -> None:
        """Refuse the key from now on, and every ticket and stream opened with it. Raises NotFound."""
        with self._changing():
            if id not in self._keys:
                raise NotFound("there is no such key: mindsight key list names them", code="key.unknown")
            self._write({other: key for other, key in self._keys.items() if other != id})

    def forget(self, sessions: Collection[str]) -> None:
        """Remove the keys that open one of these sessions alone."""
        with self._changing():
            kept = {id: key for id, key in self._keys.items() if key.session not in sessions}
            if len(kept) < len(self._keys):
                self._write(kept)

    def list(self) -> list[Key]:
        self._follow()
        return sorted(self._keys.values(), key=lambda key: key.created_t)

    def check(self, text: str) -> Key:
        """The key that ``text`` is. Raises NotAllowed; ServiceUnavailable while the issuer's keys are unknown."""
        if self._issuer is not None and not text.startswith("ms_"):
            return self._issuer(text)
        self._follow()
        match = _KEY.fullmatch(text)
        key = self._keys.get(match[1]) if match else None
        if match is None or key is None or not hmac.compare_digest(key.sha256, sha256_of(match[2].encode())):
            raise NotAllowed("expected a valid key, got an unknown one; check it, or ask for another", code="auth.key")
        if _has_expired(key):
            raise NotAllowed("expected a valid key, got one that has expired; ask for another", code="auth.expired")
        return key

    def is_valid(self, key: Key) -> bool:
        """False once it was revoked or has expired."""
        self._follow()
        return (key.id in self._keys or key.is_of_issuer) and not _has_expired(key)

    def ticket(self, key: Key) -> str:
        """A password for one WebSocket, within TICKET_S: browsers cannot send headers with it."""
        now = time.monotonic()
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets = {t: (k, until) for t, (k, until) in self._tickets.items() if until > now}
            self._tickets[ticket] = (key, now + TICKET_S)
        return ticket

    def redeem(self, ticket: str) -> Key:
        """The key behind a ticket, once. Raises NotAllowed."""
        with self._lock:
            key, until = self._tickets.pop(ticket, (None, 0.0))
        if key is None or until < time.monotonic() or not self.is_valid(key):
            raise NotAllowed("expected an unused ticket, got a used or an old one; get another", code="auth.ticket")
        return key

    def _follow(self) -> None:
        """Read the file again if it was replaced since. Raises BadRequest (``data.unreadable``) the first time; later
        the keys that were there before stay valid, so that a scan goes on.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._keys, self._read = {}, None
            return
        mark = (found.st_ino, found.st_mtime_ns)
        if mark == self._read:
            return
        with self._lock:
            try:
                keys = read_stored(self._path, _FILE.validate_json, "keys")
            except BadRequest as error:
                if self._read is None:
                    raise
                print(f"mindsight gateway: {error}; the keys before hold", file=sys.stderr, flush=True)
            else:
                self._keys = {key.id: key for key in keys}
            self._read = mark

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """No other process changes the keys meanwhile, and the ones here are the newest."""
        make_folder(self._path.parent)
        with self._lock, self._path.with_name("keys.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._follow()
            yield

    def _write(self, keys: dict[str, Key]) -> None:
        write_durably(self._path, _FILE.dump_json(list(keys.values())), mode=0o600)
        self._follow()


def _has_expired(key: Key) -> bool:
    return key.expires_t is not None and time.time() > key.expires_t


def create_keys(data_dir: Path) -> dict[Role, str]:
    """One key per role if the data folder has none yet, otherwise an empty dictionary: keys are shown only once."""
    store = KeyStore(data_dir)
    if store.exists:
        return {}
    return {role: store.mint(role)[1] for role in ROLES}
