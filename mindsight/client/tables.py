"""A session's messages as tables: one row for each result, event or volume. Knows nothing of gateways.

Rows are plain dictionaries; ``frame`` makes a pandas DataFrame of them where pandas is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mindsight.client.state import SessionState
from mindsight.errors import NotInstalled
from mindsight.protocol import (
    Captioned,
    EventAdded,
    Reconstruction,
    Result,
    RoiMeasured,
    VolumeMissing,
    VolumeProcessed,
)
from mindsight.stages import VERSIONS

if TYPE_CHECKING:
    import pandas

RESULTS = (
    *("run", "trial", "stage", "candidate", "label", "probability", "confidence", "null_confidence", "chance"),
    *("pool_size", "n_run", "flagged", "latency_s", "reconstruction", "version", "caption", "t"),
)
EVENTS = ("run", "trial", "onset_s", "duration_s", "label", "candidate", "stim_file", "stimulus")
MOTION = (
    *("run", "index", "x_mm", "y_mm", "z_mm", "pitch_deg", "roll_deg", "yaw_deg", "fd_mm", "dvars_percent", "tsnr"),
    *("outlier_slices", "censored", "missing"),
)
ROIS = ("run", "index", "at_s", "roi", "mean", "percent", "censored")


def results(state: SessionState) -> list[dict[str, Any]]:
    """One row for each trial and stage: its newest result, the digest of its newest reconstruction, its caption."""
    rows: dict[tuple[int, int, str], dict[str, Any]] = {}
    drawn: dict[tuple[int, int, str], Reconstruction] = {}
    for message in state.messages:
        if isinstance(message, Result):
            rows[message.run, message.trial, message.stage] = _result(message)
        elif isinstance(message, Reconstruction):
            key: tuple[int, int, str] = (message.run, message.trial, message.stage)
            before = drawn.get(key)
            if before is None or VERSIONS.index(message.version) >= VERSIONS.index(before.version):
                drawn[key] = message
    for key, one in drawn.items():
        if key in rows:
            rows[key] |= {"reconstruction": one.image, "version": one.version}
    for caption in state.of(Captioned):
        if (row := rows.get((caption.run, caption.trial, caption.stage))) is not None:
            row["caption"] = caption.text
    return list(rows.values())


def events(state: SessionState) -> list[dict[str, Any]]:
    """One row for each event; what was shown is None for a key that may not see it."""
    return [{name: getattr(event, name) for name in EVENTS} for event in state.of(EventAdded)]


def motion(state: SessionState) -> list[dict[str, Any]]:
    """One row for each volume: translation, rotation, framewise displacement, signal; None where not measured."""
    rows = []
    for message in state.messages:
        if isinstance(message, VolumeProcessed):
            x, y, z = message.translation_mm or (None, None, None)
            pitch, roll, yaw = message.rotation_deg or (None, None, None)
            row = {"run": message.run, "index": message.index, "x_mm": x, "y_mm": y, "z_mm": z, "pitch_deg": pitch}
            row |= {"roll_deg": roll, "yaw_deg": yaw, "fd_mm": message.fd_mm, "dvars_percent": message.dvars_percent}
            row |= {"tsnr": message.tsnr, "outlier_slices": len(message.outlier_slices)}
            rows.append(row | {"censored": message.censored, "missing": False})
        elif isinstance(message, VolumeMissing):
            unknown = dict.fromkeys(MOTION)
            rows.append({**unknown, "run": message.run, "index": message.index, "censored": True, "missing": True})
    return rows


def rois(state: SessionState) -> list[dict[str, Any]]:
    """One row for each region of interest and volume."""
    return [
        {
            "run": message.run,
            "index": message.index,
            "at_s": message.at_s,
            "roi": value.name,
            "mean": value.mean,
            "percent": value.percent,
            "censored": message.censored,
        }
        for message in state.of(RoiMeasured)
        for value in message.rois
    ]


def frame(columns: Sequence[str], rows: list[dict[str, Any]]) -> pandas.DataFrame:
    """Raises NotInstalled (``install.missing``) without pandas."""
    try:
        import pandas
    except ImportError:
        raise NotInstalled("a DataFrame needs pandas, not installed here: pip install pandas") from None
    return pandas.DataFrame(rows, columns=list(columns))


def _result(message: Result) -> dict[str, Any]:
    first = message.candidates[0]
    row: dict[str, Any] = dict.fromkeys(RESULTS)
    taken = ("run", "trial", "stage", "confidence", "null_confidence", "chance", "pool_size", "n_run", "flagged", "t")
    row |= {name: getattr(message, name) for name in taken}
    row |= {"candidate": first.id, "label": first.label, "probability": first.probability}
    if message.latency_ms.retrieval is not None:
        row["latency_s"] = message.latency_ms.retrieval / 1000.0
    return row
