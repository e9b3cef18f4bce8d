"""``Console``: enrols, opens, declares, sends. What the scanner's side of a session needs, in one object.

Knows nothing of files or scanners: ``Volume`` objects come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mindsight.client.http import Api
from mindsight.client.spool import Spool, Spooled
from mindsight.protocol.volume_codec import encode_volume
from mindsight.volume import Volume

PATIENCE_S = 60.0
_VOLUME = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The service has the volume on its disk and in its log."""

    index: int
    duplicate: bool
    next_index: int


class Console:
    """A console's connection to the service; a context manager.

    url, key : of the gateway; the key needs ``volumes:write``, and ``sessions:control`` for all but ``send``
    spool_dir : a folder on this machine for volumes that are not acknowledged yet
    patience_s : how long a service that is away is tried again before ServiceUnavailable or BusUnavailable is raised;
        what was not acknowledged then lies in the spool, and ``resume`` (of a new process too) sends it

    Every call may be repeated: what the service has already, it acknowledges again.
    """

    def __init__(self, url: str, key: str, spool_dir: Path, patience_s: float = PATIENCE_S) -> None:
        self._api = Api(url, key, patience_s)
        self._spool_dir = spool_dir

    def __enter__(self) -> Console:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; the session stays open."""
        self._api.close()

    def enrol(self, bundle: str | None = None) -> str:
        """A new subject's pseudonym. ``bundle`` is the name of a subject bundle that the service has."""
        return str(self._api.json("POST", "/subjects", {"bundle": bundle})["subject"])

    def open_session(self, subject: str, session: str | None = None, **options: float | bool) -> str:
        """The id of a new session. ``options``: blinded, fast_s, revised_s, fd_mm."""
        body = {"subject": subject, "options": options} | ({} if session is None else {"session": session})
        return str(self._api.json("POST", "/sessions", body)["session"])

    def close_session(self, session: str) -> None:
        """Nothing is taken after this; what was taken is decoded and archived."""
        self._api.json("POST", f"/sessions/{session}/close")

    def start_run(self, session: str, run: int, *, task: str, tr_s: float, n_volumes: int | None = None) -> None:
        self._api.json(
            "POST", f"/sessions/{session}/runs", {"run": run, "task": task, "tr_s": tr_s, "n_volumes": n_volumes}
        )

    def end_run(self, session: str, run: int) -> None:
        """No more volumes of this run: its final answers follow."""
        self._api.json("POST", f"/sessions/{session}/runs/{run}/end")

    def next_index(self, session: str, run: int) -> int:
        """The volume that the service expects next."""
        return int(self._api.json("GET", f"/sessions/{session}/runs/{run}")["next_index"])

    def add_event(
        self,
        session: str,
        run: int,
        onset_s: float,
        duration_s: float,
        *,
        trial: int | None = None,
        stimulus: str | None = None,
        candidate: str | None = None,
        label: str | None = None,
    ) -> None:
        """Declare a stimulus, before or after its time; with a ``trial`` number, from 1 in its run, it is decoded.

        stimulus : digest from ``post_image``
        candidate, label : its id in the candidate pool, its class; with ``stimulus`` the truth, hidden from blinded keys
        """
        event = {
            "onset_s": onset_s,
            "duration_s": duration_s,
            "trial": trial,
            "stimulus": stimulus,
            "candidate": candidate,
            "label": label,
        }
        self._api.json("POST", f"/sessions/{session}/runs/{run}/events", event)

    def post_image(self, payload: bytes) -> str:
        """Keep a picture (PNG or JPEG) that will be shown; returns its digest."""
        kind = "image/png" if payload.startswith(b"\x89PNG") else "image/jpeg"
        return str(self._api.send("POST", "/images", payload, kind)["digest"])

    def send(self, session: str, volume: Volume) -> Acknowledged:
        """Send one volume, in order; returns when the service has it for good.

        Raises OutOfOrder (``expected_index``) where volumes before it are missing, BadVolume where it is not like the
        others of its run, StorageFull, and as the class says.
        """
        spool = self._spool(session)
        return self._deliver(session, spool, spool.put(volume.run, volume.index, encode_volume(volume)))

    def mark_missing(self, session: str, run: int, index: int, reason: str) -> None:
        """Say that this volume will not come."""
        self._api.json("POST", f"/sessions/{session}/runs/{run}/volumes/{index}/missing", {"reason": reason})

    def resume(self, session: str) -> int:
        """Send what an earlier console of this session left in the spool; returns how many volumes that were."""
        spool = self._spool(session)
        waiting = spool.waiting()
        for spooled in waiting:
            self._deliver(session, spool, spooled)
        return len(waiting)

    def _spool(self, session: str) -> Spool:
        return Spool(self._spool_dir / session)

    def _deliver(self, session: str, spool: Spool, spooled: Spooled) -> Acknowledged:
        path = f"/sessions/{session}/runs/{spooled.run}/volumes/{spooled.index}"
        answer = self._api.send("PUT", path, spooled.path.read_bytes(), _VOLUME)
        spool.drop(spooled)
        return Acknowledged(answer["index"], answer["duplicate"], answer["next_index"])
