"""Figures of a session in a notebook. Needs matplotlib, for maps nibabel and nilearn; each is imported when needed.

Knows nothing of gateways but what is handed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mindsight.client.state import SessionState
from mindsight.errors import NotFound, NotInstalled
from mindsight.protocol import EventAdded
from mindsight.stages import STAGES, Stage

if TYPE_CHECKING:
    from mindsight.client.session import Session

N_CANDIDATES = 4


def plot_motion(rows: list[dict[str, Any]]) -> Any:
    """rows : of ``tables.motion``, of one run. Volumes that are left out of the betas are marked."""
    figure, axes = _pyplot().subplots(3, 1, sharex=True, figsize=(9, 6), constrained_layout=True)
    index = [row["index"] for row in rows]
    for axis, names, unit in (
        (axes[0], ("x_mm", "y_mm", "z_mm"), "translation, mm"),
        (axes[1], ("pitch_deg", "roll_deg", "yaw_deg"), "rotation, degrees"),
        (axes[2], ("fd_mm",), "framewise displacement, mm"),
    ):
        for name, style in zip(names, ("-", "--", ":"), strict=False):
            values = [float("nan") if row[name] is None else row[name] for row in rows]
            axis.plot(index, values, style, label=name.partition("_")[0])
        axis.set_ylabel(unit)
        if len(names) > 1:
            axis.legend(loc="upper left", ncols=3, fontsize="small")
    for row in rows:
        if row["censored"]:
            axes[2].axvspan(row["index"] - 0.5, row["index"] + 0.5, color="0.85")
    axes[2].set_xlabel("volume (grey: left out of the betas)")
    return figure


def plot_confidence(rows: list[dict[str, Any]]) -> Any:
    """rows : of ``tables.results``"""
    figure, axis = _pyplot().subplots(figsize=(9, 3.5), constrained_layout=True)
    order = {key: n for n, key in enumerate(sorted({(row["run"], row["trial"]) for row in rows}), 1)}
    for stage, marker in zip(STAGES, ("^", "s", "o"), strict=True):
        of_stage = [row for row in rows if row["stage"] == stage]
        at = [order[row["run"], row["trial"]] for row in of_stage]
        axis.plot(at, [row["confidence"] for row in of_stage], marker, label=stage, alpha=0.8)
    if rows:
        axis.axhline(rows[-1]["null_confidence"], color="0.6", linestyle="--", label="without a stimulus")
    axis.set(xlabel="trial, in the order of the session", ylabel="confidence that the first candidate is right")
    axis.set_ylim(0.0, 1.05)
    axis.legend(loc="lower right", fontsize="small")
    return figure


def plot_trial(session: Session, state: SessionState, trial: int, run: int | None, stage: Stage) -> Any:
    """Raises NotFound (``result.none``) without a result."""
    result = state.result(trial, stage, run)
    if result is None:
        raise NotFound(f"there is no {stage} result of trial {trial} so far", code="result.none")
    shown = next((e for e in state.of(EventAdded) if (e.run, e.trial) == (result.run, trial)), None)
    tiles: list[tuple[str, Any]] = []
    if shown is not None and shown.stimulus is not None:
        tiles.append((f"shown\n{shown.label or ''}", session.image(shown.stimulus)))
    try:
        drawn = session.reconstruction(trial, result.stage, run=result.run)
        tiles.append((f"reconstruction\n{result.stage}", drawn))
    except NotFound:
        pass  # it is not drawn yet, or never
    for candidate in result.candidates[:N_CANDIDATES]:
        text = candidate.label or candidate.id
        if candidate.probability is not None:
            text += f"\n{candidate.probability:.2f}"
        tiles.append((text, None if candidate.image is None else session.image(candidate.image)))
    figure, axes = _pyplot().subplots(1, len(tiles), figsize=(2.2 * len(tiles), 2.9), squeeze=False)
    for axis, (text, pixels_HW3) in zip(axes[0], tiles, strict=True):
        axis.set_axis_off()
        axis.set_title(text, fontsize="small")
        if pixels_HW3 is not None:
            axis.imshow(pixels_HW3)
    figure.suptitle(f"run {result.run}, trial {trial}, {result.stage}: confidence {result.confidence:.2f}")
    return figure


def plot_stat_map(image: Any, background: Any, **given: Any) -> Any:
    """Raises NotInstalled without nilearn."""
    try:
        from nilearn.plotting import plot_stat_map as plot
    except ImportError:
        raise NotInstalled("a map needs nilearn, not installed here: pip install nilearn matplotlib") from None
    return plot(image, bg_img=background, **given)


def nifti(content: bytes) -> Any:
    """An image of nibabel. Raises NotInstalled."""
    try:
        import nibabel
    except ImportError:
        raise NotInstalled("a NIfTI image needs nibabel, not installed here: pip install nibabel") from None
    return nibabel.Nifti1Image.from_bytes(content)


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise NotInstalled("a figure needs matplotlib, not installed here: pip install matplotlib") from None
    return pyplot
