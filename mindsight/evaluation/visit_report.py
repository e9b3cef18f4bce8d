"""The report of one archived session, beside its derivatives, as fMRIPrep leaves one for a subject.

Made of the archive alone; the same archive gives the same page. Knows nothing of the service.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindsight.archive.names import DERIVED, PROVENANCE, RAWDATA, run_of
from mindsight.archive.read import DecodedSession, read_session, read_session_name
from mindsight.errors import Conflict
from mindsight.evaluation.from_session import summary_of
from mindsight.evaluation.live import live_figures
from mindsight.evaluation.records import LiveFigure
from mindsight.evaluation.session_summary import SessionSummary
from mindsight.events import NOT_AVAILABLE
from mindsight.files.durable import write_durably

SEED = 4


@dataclass(frozen=True, eq=False)
class RunCourse:
    """A run's confounds, one value per volume, NaN where unknown.

    censored_T, missing_T : bool
    figure : of its registration; None without one
    """

    run: int
    task: str
    tr_s: float
    translation_T3: NDArray[np.float64]
    rotation_T3: NDArray[np.float64]
    fd_mm_T: NDArray[np.float64]
    dvars_T: NDArray[np.float64]
    censored_T: NDArray[np.bool_]
    missing_T: NDArray[np.bool_]
    figure: Path | None

    @property
    def minutes(self) -> float:
        return len(self.fd_mm_T) * self.tr_s / 60.0


@dataclass(frozen=True, eq=False)
class Visit:
    """What the page is made of.

    latencies_ms : stage -> milliseconds from the beta to its result
    """

    subject: str
    session: str
    runs: tuple[RunCourse, ...]
    decoded: DecodedSession
    live: tuple[LiveFigure, ...]
    summary: SessionSummary
    latencies_ms: Mapping[str, NDArray[np.float64]]
    provenance: Mapping[str, Any]


def report_file(archive: Path) -> Path:
    """Where a session's report is."""
    subject, session = read_session_name(archive)
    return archive / DERIVED / f"sub-{subject}_ses-{session}.html"


def write_report(archive: Path, out: Path | None = None) -> Path:
    """Write the page; returns its file. out : None for its place in the archive, where it is replaced

    Raises BadRequest (``archive.answers``) for a folder that is no session's archive, Conflict (``report.exists``).
    """
    from mindsight.evaluation.report.visit_page import visit_page

    if out is not None and out.exists():
        raise Conflict(f"expected a new file, {out} exists: name another", code="report.exists")
    file = out or report_file(archive)
    write_durably(file, visit_page(read_visit(archive)).encode())
    return file


def read_visit(archive: Path) -> Visit:
    """Raises BadRequest (``archive.answers``) for a folder that is no session's archive."""
    subject, session = read_session_name(archive)
    decoded = read_session(archive)
    latencies: dict[str, list[float]] = {}
    for (_, _, stage), result in sorted(decoded.results.items()):
        if (taken := result.get("latency_ms", {}).get("retrieval")) is not None:
            latencies.setdefault(stage, []).append(taken)
    confounds = sorted((archive / DERIVED).glob("sub-*/ses-*/func/*_desc-confounds_timeseries.tsv"))
    return Visit(
        subject=subject,
        session=session,
        runs=tuple(sorted((_course(archive, path) for path in confounds), key=lambda course: course.run)),
        decoded=decoded,
        live=tuple(live_figures(decoded, np.random.default_rng([0, SEED]))),
        summary=summary_of(archive, decoded),
        latencies_ms={stage: np.asarray(values) for stage, values in latencies.items()},
        provenance=json.loads((archive / DERIVED / PROVENANCE).read_text(encoding="utf-8")),
    )


def _course(archive: Path, path: Path) -> RunCourse:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    stem = path.name.partition("_desc-")[0]
    sidecar = next((archive / RAWDATA).glob(f"sub-*/ses-*/func/{stem}_bold.json"))
    described = json.loads(sidecar.read_text(encoding="utf-8"))
    outliers = [name for name in rows[0] if name.startswith("motion_outlier")] if rows else []

    def column(name: str) -> NDArray[np.float64]:
        return np.array([np.nan if row.get(name) in (None, NOT_AVAILABLE) else float(row[name]) for row in rows])

    return RunCourse(
        run=run_of(path.name),
        task=described["TaskName"],
        tr_s=float(described["RepetitionTime"]),
        translation_T3=np.stack([column(f"trans_{axis}") for axis in "xyz"], axis=1),
        rotation_T3=np.degrees(np.stack([column(f"rot_{axis}") for axis in "xyz"], axis=1)),
        fd_mm_T=column("framewise_displacement"),
        dvars_T=column("dvars_percent"),
        censored_T=np.array([any(row[name] == "1" for name in outliers) for row in rows]),
        missing_T=column("missing_volume") == 1.0,
        figure=next((archive / DERIVED).glob(f"sub-*/figures/{stem}_*.png"), None),
    )
