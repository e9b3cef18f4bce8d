"""A session by its archive without its images: what its results were worth, where its runs were, how betas drifted.

Every session is measured so: decoded to labels, to images, with reconstructions or without. Knows nothing of metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.archive.read import (
    DecodedSession,
    read_bundle_digests,
    read_final_betas,
    read_registrations,
    read_session,
)
from mindsight.errors import BadRequest, ModelMismatch
from mindsight.evaluation.calibration_record import RunRegistration
from mindsight.evaluation.drift import RunDrift, drift_of
from mindsight.evaluation.live import live_figures, live_leaks
from mindsight.evaluation.records import LiveFigure
from mindsight.evaluation.session_summary import SessionSummary, session_trials
from mindsight.glm import Statistics


@dataclass(frozen=True, eq=False)
class SessionEvaluation:
    """A session whose results are candidates without reconstructions.

    live : accuracy by stage, and the control
    leaks : controls above chance
    """

    name: str
    live: tuple[LiveFigure, ...]
    summary: SessionSummary
    notes: tuple[str, ...]
    leaks: tuple[str, ...]


def summary_of(archive: Path, session: DecodedSession, calibrated: Statistics | None = None) -> SessionSummary:
    """Trials, registrations and, with the statistics of the calibration, their drift."""
    return SessionSummary(
        trials=session_trials(session),
        registrations=tuple(
            _place(run, details) for run, details in read_registrations(archive).items() if "displacement_mm" in details
        ),
        drift=() if calibrated is None else _drift(archive, calibrated),
    )


def evaluate_session(archive: Path, *, bundle: Path | None = None, seed: int = 0) -> SessionEvaluation:
    """A session that has no reconstructions.

    bundle : the one that decoded it, for the drift since its calibration

    Raises BadRequest (``archive.answers``) if no trial with a known image or label was decoded, ModelMismatch
    (``archive.bundle``) for another bundle.
    """
    session = read_session(archive)
    calibrated = None if bundle is None else statistics_of(archive, bundle)
    summary = summary_of(archive, session, calibrated)
    if not summary.trials:
        raise BadRequest(
            f"expected decoded trials in {archive.name} whose image or label is known, got none: send events with a"
            " label or a candidate of the pool",
            code="archive.answers",
        )
    live = tuple(live_figures(session, np.random.default_rng([seed, 4])))
    notes = [] if bundle is not None else ["The drift since the calibration is measured with --bundle."]
    return SessionEvaluation(session.name, live, summary, tuple(notes), tuple(live_leaks(live)))


def statistics_of(archive: Path, bundle: Path) -> Statistics:
    """Of the bundle that decoded the session. Raises ModelMismatch (``archive.bundle``) for another one."""
    from mindsight.subjects.bundle.description import read_description, verify_files
    from mindsight.subjects.bundle.space import read_space

    described, used = read_description(bundle), read_bundle_digests(archive)
    if described.digest not in used:
        raise ModelMismatch(
            f"expected the bundle that decoded the session ({', '.join(used)}), got {described.digest}",
            code="archive.bundle",
        )
    verify_files(bundle, described)
    return read_space(bundle, described).statistics


def _drift(archive: Path, calibrated: Statistics) -> tuple[RunDrift, ...]:
    betas: dict[int, list[NDArray[np.float32]]] = {}
    for (run, _), beta in sorted(read_final_betas(archive).items()):
        betas.setdefault(run, []).append(beta.beta_V)
    return drift_of({run: np.stack(several) for run, several in betas.items()}, calibrated)


def _place(run: int, details: Mapping[str, Any]) -> RunRegistration:
    how = details["how"]
    return RunRegistration(
        run=run,
        how=how,
        trusted=how != "refused",
        displacement_mm=float(details["displacement_mm"]),
        coverage=float(details["coverage"]),
        unexplained=details.get("unexplained"),
        text=str(details.get("text", "")),
    )
