"""Every alert on a real run: it is raised when the run is disturbed accordingly, and never on the undisturbed run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from mindsight.glm import Event
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta, VolumeReport
from mindsight.ingest.space import SubjectSpace
from mindsight.ingest.state import IngestState
from mindsight.preprocessing import brain_mask
from mindsight.preprocessing.quality.baseline import Baseline, baseline_of, measure_signal
from mindsight.preprocessing.quality.rules import RULES, Alert
from mindsight.scanner import open_run
from mindsight.volume import Volume
from support.ingest_world import through_json

OPTIONS = IngestOptions(noise="ols")
N_VOLUMES = 70
FROM = 40
TRIALS = (Event(10.0, 2.0, 1), Event(75.0, 2.0, 2), Event(115.0, 2.0, 3))  # the volumes at FROM lie in the second

Data = NDArray[np.float32]
Disturbance = Callable[[int, Data, np.random.Generator], Data]


def moved(data_XYZ: Data, z_mm: float) -> Data:
    """The cubic spline along z alone, as a matrix: nothing moves along x and y."""
    unit_ZZ = np.eye(data_XYZ.shape[2])
    shift_ZZ = np.array([ndimage.shift(unit_Z, z_mm / 3.588, order=3, mode="nearest") for unit_Z in unit_ZZ])
    return (data_XYZ @ shift_ZZ).astype(np.float32)  # type: ignore[no-any-return]


def noisy(data_XYZ: Data, rng: np.random.Generator, percent: float) -> Data:
    return data_XYZ + rng.normal(0.0, percent / 100.0 * 590.0, data_XYZ.shape).astype(np.float32)


def dimmed(data_XYZ: Data, slices: slice, by: float) -> Data:
    out = data_XYZ.copy()
    out[:, :, slices] *= by
    return out


def coil_gone(data_XYZ: Data) -> Data:
    return data_XYZ * np.linspace(1.6, 0.2, data_XYZ.shape[0], dtype=np.float32)[:, None, None]


# From which volume on, and what is done to the volumes, which alert it is for, and which others it may bring along.
CASES: dict[str, tuple[int, Disturbance, set[str]]] = {
    "quality.motion": (FROM, lambda t, x, _: moved(x, 1.2) if t >= FROM else x, {"quality.spike", "quality.dvars"}),
    "quality.motion_often": (
        FROM,
        lambda t, x, _: moved(x, 1.2 * (t % 2)) if FROM <= t < FROM + 14 else x,
        {"quality.motion", "quality.spike", "quality.dvars", "quality.tsnr", "quality.slices"},
    ),
    "quality.position": (
        FROM,
        lambda t, x, _: moved(x, min(0.25 * (t - FROM), 4.0)) if t >= FROM else x,
        {"quality.dvars", "quality.tsnr", "quality.tsnr_calibration", "quality.drift", "quality.slices", "quality.fit"},
    ),
    "quality.no_pose": (
        FROM,
        lambda t, x, rng: rng.permuted(x.ravel()).reshape(x.shape) if t in (FROM, FROM + 1) else x,
        {"quality.dvars", "quality.spike", "quality.motion"},
    ),
    "quality.fit": (
        FROM,
        lambda t, x, _: coil_gone(x) if t >= FROM else x,
        {
            "quality.dvars",
            "quality.spike",
            "quality.drift",
            "quality.tsnr",
            "quality.tsnr_calibration",
            "quality.slices",
        }
        | {"quality.motion", "quality.motion_often", "quality.no_pose"},
    ),
    "quality.slices": (
        FROM,
        lambda t, x, _: dimmed(x, slice(12, 14), 0.7) if t in range(FROM, FROM + 12, 2) else x,
        {"quality.dvars", "quality.spike", "quality.motion_often"},
    ),
    "quality.spike": (FROM, lambda t, x, _: dimmed(x, slice(0, None, 2), 0.8) if t == FROM else x, {"quality.dvars"}),
    "quality.dvars": (FROM, lambda t, x, rng: noisy(x, rng, 4.0) if t == FROM else x, set()),
    "quality.tsnr_calibration": (0, lambda t, x, rng: noisy(x, rng, 4.0), {"quality.slices"}),
    "quality.tsnr": (
        31,
        lambda t, x, rng: noisy(x, rng, 5.0) if t >= 31 else x,
        {"quality.dvars", "quality.spike", "quality.tsnr_calibration", "quality.slices"},
    ),
    "quality.drift": (
        13,
        lambda t, x, _: x * np.float32(1.0 + 0.002 * max(t - 12, 0)),
        {"quality.tsnr", "quality.tsnr_calibration"},
    ),
    "quality.signal": (0, lambda t, x, _: x * np.float32(0.7), set()),
}


@pytest.fixture(scope="module")
def volumes(shared: Path) -> list[Volume]:
    run = open_run(shared / "data" / "trio_run155")
    return [
        replace(volume, data=np.asfortranarray(volume.data.astype(np.float32)))
        for volume in itertools.islice(run.volumes(), N_VOLUMES)
    ]


@pytest.fixture(scope="module")
def space(volumes: list[Volume]) -> SubjectSpace:
    return SubjectSpace(volumes[0], brain_mask(volumes[0].data))


@dataclass(frozen=True, eq=False)
class Quiet:
    """The undisturbed run.

    states : of the session before each volume from which on some case disturbs it
    """

    baseline: Baseline
    states: dict[int, IngestState]
    reports: list[VolumeReport]
    alerts: list[Alert]
    finals: list[TrialBeta]


def begun(volumes: list[Volume], space: SubjectSpace, baseline: Baseline | None = None) -> IngestSession:
    session = IngestSession(OPTIONS, space, baseline=baseline, clock=time.perf_counter)
    session.start_run(1, volumes[0].tr_s, len(volumes))
    for event in TRIALS:
        session.add_event(1, event)
    return session


def all_alerts(session: IngestSession, reports: list[VolumeReport]) -> list[Alert]:
    """Up to the end of the run."""
    return [alert for report in reports for alert in report.alerts] + session.end_alerts(1)


@pytest.fixture(scope="module")
def quiet(volumes: list[Volume], space: SubjectSpace) -> Quiet:
    session = begun(volumes, space)
    for volume in volumes:
        session.push(volume)
    baseline = baseline_of([measure_signal(session.run_series(1))])
    session = begun(volumes, space, baseline)
    states, reports = {}, []
    for volume in volumes:
        if volume.index in {first for first, _, _ in CASES.values()}:
            states[volume.index] = through_json(session.state())
        reports.append(session.push(volume).report)
    finals = session.end_run(1)
    return Quiet(baseline, states, reports, all_alerts(session, reports), finals)


def through(
    volumes: list[Volume], space: SubjectSpace, quiet: Quiet, first: int, disturb: Disturbance
) -> tuple[list[VolumeReport], list[Alert], list[TrialBeta]]:
    """Reports, all alerts up to the end of the run, and the final betas; up to volume ``first`` it is the
    undisturbed run."""
    rng = np.random.default_rng(0)
    state = through_json(quiet.states[first])
    session = IngestSession.restore(state, OPTIONS, space, baseline=quiet.baseline, clock=time.perf_counter)
    reports = quiet.reports[:first]
    for volume in volumes[first:]:
        data = np.asfortranarray(disturb(volume.index, volume.data, rng).astype(np.float32))
        reports.append(session.push(replace(volume, data=data)).report)
    finals = session.end_run(1)
    return reports, all_alerts(session, reports), finals


@pytest.mark.slow
def test_the_undisturbed_run_raises_no_alert(quiet: Quiet) -> None:
    assert quiet.alerts == []
    assert not any(report.censored for report in quiet.reports)
    assert not any(answer.flagged for answer in quiet.finals)
    assert quiet.baseline.tsnr is not None
    assert quiet.reports[-1].tsnr == pytest.approx(quiet.baseline.tsnr, rel=1e-3)


def test_every_alert_has_a_disturbance() -> None:
    assert set(CASES) == {rule.code for rule in RULES}


# In short those that are found in the most different ways: a pose, one slice, one volume.
SHORT = ("quality.motion", "quality.slices", "quality.spike")


@pytest.mark.parametrize(
    "code", [pytest.param(code, marks=[] if code in SHORT else [pytest.mark.slow]) for code in CASES]
)
def test_an_alert_is_reported_once_when_its_disturbance_comes_and_is_over_at_the_end_of_the_run(
    code: str, volumes: list[Volume], space: SubjectSpace, quiet: Quiet
) -> None:
    first, disturb, others = CASES[code]
    reports, alerts, finals = through(volumes, space, quiet, first, disturb)
    codes = [alert.code for alert in alerts]
    print(codes, [t for t, r in enumerate(reports) if r.censored])
    assert codes.count(code) == codes.count(f"{code}.over") == 1
    assert {name.removesuffix(".over") for name in codes} - {code} <= others
    assert sorted(name for name in codes if not name.endswith(".over")) == sorted(
        name.removesuffix(".over") for name in codes if name.endswith(".over")
    )
    censored_s = [t * volumes[0].tr_s for t, report in enumerate(reports) if report.censored]
    disturbed = {
        e.trial for e in TRIALS if any(e.onset_s <= at <= e.onset_s + e.duration_s + 12.0 for at in censored_s)
    }
    assert {answer.trial for answer in finals if answer.flagged} == disturbed


def test_figures_of_the_slices_and_of_the_fit_are_reported(
    volumes: list[Volume], space: SubjectSpace, quiet: Quiet
) -> None:
    first, disturb, _ = CASES["quality.slices"]
    reports, _, _ = through(volumes[:45], space, quiet, first, disturb)
    assert {12, 13} <= set(reports[FROM].outlier_slices)
    assert all(report.residual is not None and 0.0 <= report.residual < 0.2 for report in reports)
