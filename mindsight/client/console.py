"""The console's side of a session: declare runs and events, send volumes, lose none. Knows nothing of scanners."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlencode

from mindsight.client.http import Http
from mindsight.client.spool import Spool, Spooled
from mindsight.errors import BadRequest, BadVolume, Conflict, Diverged
from mindsight.events import Note
from mindsight.protocol.messages import MotionOrder
from mindsight.volume import Volume
from mindsight.volume_codec import encode_volume

SPOOL = Path.home() / ".mindsight" / "spool"
MAX_WARNING = 500
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Ack:
    """The gateway has stored this volume durably. ``digest`` is None for a volume declared missing."""

    index: int
    digest: str | None
    duplicate: bool
    next_index: int


@dataclass(frozen=True)
class RunState:
    """A run as the gateway has it; ``next_index`` is the index of the volume that it expects next."""

    run: int
    next_index: int
    ended: bool


class Console:
    """Pushes one session to a gateway.

    url, key : of the gateway; the key needs the scopes subjects:write, sessions:control and volumes:write
    session : id of an open session; None: call ``open_session``
    spool_dir : folder for unacknowledged volumes
    deadline_s : seconds for which a request is repeated while the gateway does not answer

    As a context manager it closes the connection, not the session. Every method raises ServiceUnavailable (or
    BusUnavailable, StorageFull) after the deadline, NotAllowed, and the gateway's own errors: NotFound, Conflict,
    BadRequest, BadVolume, OutOfOrder, Diverged.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        session: str | None = None,
        spool_dir: Path = SPOOL,
        deadline_s: float = 30.0,
    ) -> None:
        self._http = Http(url, key, deadline_s)
        self._spool_dir = spool_dir
        self._session = session

    def __enter__(self) -> Console:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def session(self) -> str:
        if self._session is None:
            raise BadRequest("expected an open session: call open_session, or pass session=", code="session.none")
        return self._session

    def enrol(self, bundle: str | None = None) -> str:
        """Enrol a subject; returns the pseudonym."""
        pseudonym: str = self._http.call("POST", "/v1/subjects", json={"bundle": bundle})["subject"]
        return pseudonym

    def set_bundle(self, subject: str, bundle: str) -> None:
        """Decode the subject's later sessions with this bundle."""
        self._http.call("PUT", f"/v1/subjects/{subject}/bundle", json={"bundle": bundle})

    def open_session(
        self, subject: str, *, session: str | None = None, calibration: bool = False, **options: Any
    ) -> str:
        """Open a session and use it from now on; returns its id. ``options`` are those of ``SessionOptions``.

        calibration : whether the subject is calibrated from it while it is scanned
        """
        name = session or f"ses-{secrets.token_hex(4)}"
        body = {"subject": subject, "session": name, "options": options, "calibration": calibration}
        opened: str = self._http.call("POST", "/v1/sessions", json=body)["session"]
        self._session = opened
        return opened

    def set_limits(
        self, *, fd_mm: float | None = None, usable_min: float | None = None, **limits: float | Literal["off"]
    ) -> None:
        """Change quality limits from the next volume on; limits that are not named stay.

        fd_mm : framewise displacement above which a volume is censored; the alert's own ``fd_mm`` follows it
        usable_min : minutes of usable data that the session shall give
        limits : those of ``protocol.inputs.Limits``, by name; "off" for never
        """
        body = {"change": secrets.token_hex(8), "fd_mm": fd_mm, "usable_min": usable_min, "limits": limits}
        self._http.call("POST", f"{self._path}/limits", json=body)

    def declare_roi(
        self,
        name: str,
        mask: Path | bytes,
        *,
        seconds: tuple[float, float] | None = None,
        label: str | None = None,
    ) -> int:
        """Measure a region of interest with every volume from now on; returns the number of voxels in its mask.

        mask : NIfTI with the voxels of the session's volumes, above 0 in the region
        seconds, label : what percent signal change is relative to: a time of the run, or events of a kind; by default
            the volumes in no event
        """
        content = mask if isinstance(mask, bytes) else mask.read_bytes()
        query: dict[str, str | float] = {"baseline": "rest"}
        if seconds is not None:
            query = {"baseline": "seconds", "from_s": seconds[0], "until_s": seconds[1]}
        elif label is not None:
            query = {"baseline": "label", "label": label}
        added = self._http.call("PUT", f"{self._path}/rois/{name}?{urlencode(query)}", content=content)
        n_voxels: int = added["n_voxels"]
        return n_voxels

    def start_run(
        self,
        run: int,
        *,
        task: str,
        tr_s: float,
        n_volumes: int | None = None,
        motion: MotionOrder | None = None,
    ) -> int:
        """Declare a run; returns the index of the volume that the gateway expects next (0 for a new run).

        motion : which three of each volume's ``motion_6`` come first; None: the service estimates motion
        """
        body = {"run": run, "task": task, "tr_s": tr_s, "n_volumes": n_volumes, "motion": motion}
        next_index: int = self._http.call("POST", f"{self._path}/runs", json=body)["next_index"]
        return next_index

    def next_index(self, run: int) -> int:
        """Index of the volume at which an interrupted run resumes."""
        next_index: int = self._http.call("GET", f"{self._path}/runs/{run}")["next_index"]
        return next_index

    def runs(self) -> list[RunState]:
        """The session's runs, in the order of their declaration."""
        found = self._http.call("GET", f"{self._path}/runs")
        return [RunState(run["run"], run["next_index"], run["ended"]) for run in found]

    def needs_n_volumes(self) -> bool:
        """Whether runs must be declared with ``n_volumes`` to be decoded."""
        return bool(self._http.call("GET", self._path).get("needs_n_volumes", False))

    def warn(
        self,
        code: str,
        text: str,
        *,
        run: int | None = None,
        index: int | None = None,
        level: Literal["info", "warning", "error"] = "warning",
    ) -> None:
        """Report a problem to everyone who watches; never with a name, a path or an address. A repeat has no effect."""
        body = {"code": code, "text": text[:MAX_WARNING], "level": level, "run": run, "index": index}
        self._http.call("POST", f"{self._path}/warnings", json=body)

    def post_image(self, image: bytes) -> str:
        """Upload an image (PNG or JPEG) that will be shown; returns its digest, the name for ``add_event``."""
        digest: str = self._http.call("POST", "/v1/images", content=image)["digest"]
        return digest

    def add_event(self, run: int, *, onset_s: float, duration_s: float, trial: int | None = None, **what: Any) -> None:
        """Declare an event; one with a ``trial`` number (from 1 in its run) is decoded.

        what : ``stimulus`` (a digest from post_image), ``candidate`` (its id in the pool) or ``stim_file`` (its file,
            which names the candidate), ``label`` (trial_type); ``occurrence``, from 2, of an event without a trial
            that equals an earlier one
        """
        self.add_events(run, [{"onset_s": onset_s, "duration_s": duration_s, "trial": trial, **what}])

    def add_events(self, run: int, events: Sequence[Mapping[str, Any]] | str) -> tuple[Note, ...]:
        """Declare several events: dictionaries with the arguments of add_event, or the text of a BIDS events.tsv.

        Returns notes on the table, such as rows that were left out; they are in the session's log as well.
        """
        path = f"{self._path}/runs/{run}/events"
        if isinstance(events, str):
            added = self._http.call(
                "POST", path, content=events.encode(), headers={"Content-Type": "text/tab-separated-values"}
            )
        else:
            added = self._http.call("POST", path, json=[dict(event) for event in events])
        return tuple(Note(note["code"], note["text"], note["level"]) for note in added.get("notes", []))

    def send(self, volume: Volume) -> Ack:
        """Send the volumes in the spool, then this one; returns when the gateway has it durably.

        The volume is on this machine's disk first. After ServiceUnavailable, BusUnavailable, StorageFull or OutOfOrder
        the next ``send`` or ``resume``, also of a new process, sends it again. A volume that the gateway refuses for
        good (BadVolume, BadRequest, Conflict, Diverged) moves to the spool's folder ``refused`` and blocks no other.
        """
        spooled = self._spool.put(volume.run, volume.index, encode_volume(volume))
        acks = {(waiting.run, waiting.index): self._deliver(waiting) for waiting in self._spool.waiting()}
        return acks[spooled.run, spooled.index]

    def resume(self) -> int:
        """Send this session's volumes in the spool; returns their number."""
        return len([self._deliver(waiting) for waiting in self._spool.waiting()])

    def waiting(self) -> int:
        """Number of unacknowledged volumes."""
        return len(self._spool.waiting())

    def mark_missing(self, run: int, index: int, reason: str = "not received") -> Ack:
        """Declare that a volume will not come, so that the next one is in order."""
        path = f"{self._path}/runs/{run}/volumes/{index}/missing"
        return _ack(self._http.call("POST", path, json={"reason": reason}))

    def end_run(self, run: int) -> None:
        """Send the spool, then end the run; its final results follow."""
        self.resume()
        self._http.call("POST", f"{self._path}/runs/{run}/end")

    def close_session(self) -> None:
        """Send the spool, then close the session: the service accepts nothing more and archives it."""
        self.resume()
        self._http.call("POST", f"{self._path}/close")

    def close(self) -> None:
        """Close the connection. The session stays open."""
        self._http.close()

    @property
    def _path(self) -> str:
        return f"/v1/sessions/{self.session}"

    @property
    def _spool(self) -> Spool:
        if not _SESSION.fullmatch(self.session):
            raise BadRequest("expected a session id of letters, digits, - and _", code="session.name")
        return Spool(self._spool_dir / self.session)

    def _deliver(self, waiting: Spooled) -> Ack:
        payload = waiting.read()
        try:
            ack = self._http.call(
                "PUT",
                f"{self._path}/runs/{waiting.run}/volumes/{waiting.index}",
                content=payload,
                headers={"X-Content-SHA256": hashlib.sha256(payload).hexdigest()},
            )
        except (BadVolume, BadRequest, Conflict, Diverged):
            waiting.put_aside()
            raise
        waiting.remove()
        return _ack(ack)


def _ack(body: Mapping[str, Any]) -> Ack:
    return Ack(body["index"], body["digest"], body["duplicate"], body["next_index"])
