"""One session as a program sees it that waits for results: a stimulus program, a notebook.

Knows nothing of scanners. A thread follows the session's messages; nothing here blocks but what says so.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mindsight.client import tables
from mindsight.client.http import Http
from mindsight.client.state import SessionState
from mindsight.client.watch import Watch
from mindsight.errors import DeadlineExceeded, MindsightError, NotFound
from mindsight.files.pixels import pixels_of
from mindsight.protocol import Message, Result
from mindsight.protocol.stream import Tick
from mindsight.stages import Stage

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

_CAUGHT_UP_S = 30.0


class Session:
    """One session.

    url, key : of the gateway; the key needs the scope events:read, what was shown truth:read
    session : its id

    Every method raises the errors of ``Watch`` and of the gateway; those that wait, DeadlineExceeded.
    """

    def __init__(self, url: str, key: str, session: str) -> None:
        self.session = session
        self._http = Http(url, key, deadline_s=30.0)
        self._state = SessionState()
        self._changed = threading.Condition()
        self._last: int | None = None  # number of the last message when it was last told
        self._error: MindsightError | None = None
        self._watch = Watch(url, key, session, on_tick=self._tick)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Session:
        self.follow()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop following. The session stays as it is."""
        self._watch.close()
        if self._thread is not None:
            self._thread.join(5.0)
        self._http.close()

    def follow(self) -> None:
        """Start to follow the session; every other method does it when first needed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._take, name="mindsight-session", daemon=True)
            self._thread.start()

    def wait(self, trial: int, stage: Stage = "fast", deadline_s: float = 3.0, *, run: int | None = None) -> Result:
        """The trial's result at this stage, or at a later one if that is there; blocks until it comes.

        trial : its number in its run, from 1, as it was declared
        deadline_s : seconds from now
        run : None for the one that began last

        Raises DeadlineExceeded (``result.late``) at the deadline; NotFound (``result.none``) once it cannot come.
        """
        self.follow()
        found: list[Result] = []

        def has_come() -> bool:
            self._raise_error()
            result = self._state.result(trial, stage, run)
            found.extend([] if result is None else [result])
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(has_come, deadline_s):
                raise DeadlineExceeded(
                    f"expected a {stage} result of trial {trial} within {deadline_s:g} s, got none: go on without it",
                    code="result.late",
                )
        return found[0]

    def latest(self, trial: int, stage: Stage = "fast", *, run: int | None = None) -> Result | None:
        """The same without waiting, for a loop that draws frames; None as long as there is none."""
        self.follow()
        with self._changed:
            self._raise_error()
            return self._state.result(trial, stage, run)

    def messages(self) -> list[Message]:
        """All messages so far, in order."""
        self._need_all()
        return list(self._state.messages)

    def results(self) -> pandas.DataFrame:
        """One row for each trial and stage so far, see ``tables.RESULTS``. Raises NotInstalled without pandas."""
        return self._frame(tables.RESULTS, tables.results)

    def events(self) -> pandas.DataFrame:
        """One row for each event so far; what was shown, if the key may see it. Raises NotInstalled without pandas."""
        return self._frame(tables.EVENTS, tables.events)

    def motion(self) -> pandas.DataFrame:
        """One row for each volume so far: motion in mm and degrees, FD, DVARS, tSNR. Raises NotInstalled."""
        return self._frame(tables.MOTION, tables.motion)

    def rois(self) -> pandas.DataFrame:
        """One row for each region of interest and volume so far. Raises NotInstalled without pandas."""
        return self._frame(tables.ROIS, tables.rois)

    def image(self, digest: str) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: a candidate, a reconstruction, or what was shown if the key may see it."""
        return pixels_of(self._http.content(f"/v1/images/{digest}"))

    def reconstruction(self, trial: int, stage: Stage = "final", *, run: int | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the newest reconstruction of the trial at this stage. Raises NotFound (``image.none``)."""
        self._need_all()
        run = self._state.run if run is None else run
        for row in tables.results(self._state):
            if (row["run"], row["trial"], row["stage"]) == (run, trial, stage) and row["reconstruction"]:
                return self.image(row["reconstruction"])
        raise NotFound(f"there is no {stage} reconstruction of trial {trial} so far", code="image.none")

    def beta(self, trial: int, stage: Stage = "final", *, run: int | None = None) -> NDArray[np.float32]:
        """(V,) the trial's beta at this stage, in C order of the mask's voxels; NaN where it could not be estimated."""
        self._need_all()
        return self.vector(self._state.beta(trial, stage, run).beta)

    def vector(self, digest: str) -> NDArray[np.float32]:
        """(V,) or (2, V): a beta, its standard errors, or statistics, by the digest in a ``beta.ready`` message."""
        values = np.frombuffer(self._http.content(f"/v1/sessions/{self.session}/betas/{digest}"), "<f4")
        n_voxels = self._state.space().n_voxels if self._state.messages else values.size
        return values.reshape(-1, n_voxels) if values.size > n_voxels else values

    def beta_map(self, trial: int, stage: Stage = "final", *, run: int | None = None) -> Any:
        """The same as a NIfTI image, in percent of the reference's signal. Raises NotInstalled without nibabel."""
        from mindsight.client.plots import nifti

        self._need_all()
        run = self._state.beta(trial, stage, run).run
        path = f"/v1/sessions/{self.session}/runs/{run}/trials/{trial}/beta?stage={stage}"
        return nifti(self._http.content(path))

    def reference(self) -> Any:
        """The volume that all others are aligned to, as a NIfTI image. Raises NotInstalled without nibabel."""
        from mindsight.client.plots import nifti

        self._need_all()
        return nifti(self._http.content(f"/v1/views/{self._state.space().reference}"))

    def plot_motion(self, run: int | None = None) -> Any:
        """Translation, rotation and framewise displacement of a run, against its volumes: a matplotlib figure."""
        from mindsight.client.plots import plot_motion

        self._need_all()
        run = self._state.run if run is None else run
        return plot_motion([row for row in tables.motion(self._state) if row["run"] == run])

    def plot_trial(self, trial: int, *, run: int | None = None, stage: Stage = "final") -> Any:
        """What was shown (if the key may see it), the reconstruction and the closest candidates: a figure."""
        from mindsight.client.plots import plot_trial

        self._need_all()
        return plot_trial(self, self._state, trial, self._state.run if run is None else run, stage)

    def plot_confidence(self) -> Any:
        """Confidence of every trial's results, by stage, beside the level without information: a figure."""
        from mindsight.client.plots import plot_confidence

        self._need_all()
        return plot_confidence(tables.results(self._state))

    def plot_beta(self, trial: int, stage: Stage = "final", *, run: int | None = None, **given: Any) -> Any:
        """A trial's beta on the reference. given : for nilearn's ``plot_stat_map``, as ``threshold``"""
        from mindsight.client.plots import plot_stat_map

        return plot_stat_map(self.beta_map(trial, stage, run=run), self.reference(), **given)

    def _frame(self, columns: tuple[str, ...], rows_of: Any) -> pandas.DataFrame:
        self._need_all()
        with self._changed:
            rows = rows_of(self._state)
        return tables.frame(columns, rows)

    def _take(self) -> None:
        try:
            for message in self._watch:
                with self._changed:
                    self._state.add(message)
                    self._changed.notify_all()
        except MindsightError as error:
            self._error = error
        with self._changed:
            self._last = 0  # no more come
            self._changed.notify_all()

    def _tick(self, tick: Tick) -> None:
        with self._changed:
            self._last = tick.last
            self._changed.notify_all()

    def _need_all(self) -> None:
        """Wait until every message has come that the service told of."""
        self.follow()

        def have_come() -> bool:
            return self._last is not None and len(self._state.messages) >= self._last

        with self._changed:
            if not self._changed.wait_for(have_come, _CAUGHT_UP_S):
                raise DeadlineExceeded("expected the session's messages, got no answer", code="session.silent")
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
