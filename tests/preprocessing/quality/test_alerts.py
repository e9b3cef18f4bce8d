from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindsight.errors import BadRequest
from mindsight.preprocessing import Quality, Realigner, brain_mask
from mindsight.preprocessing.motion import rigid
from mindsight.preprocessing.quality.alerts import Alerts
from mindsight.preprocessing.quality.baseline import Baseline
from mindsight.preprocessing.quality.limits import QualityLimits
from mindsight.preprocessing.quality.rules import RULES, Alert, VolumeFigures
from mindsight.scanner import read_series

GOOD = VolumeFigures(fd_mm=0.1, dvars_percent=1.0, tsnr=80.0, displacement_mm=0.3, mean_signal=1000.0, residual=0.02)


def changed(**figures: object) -> VolumeFigures:
    return VolumeFigures(**{field.name: getattr(GOOD, field.name) for field in fields(GOOD)} | figures)  # type: ignore[arg-type]


def run(alerts: Alerts, volumes: list[VolumeFigures]) -> list[tuple[int, str]]:
    return [(t, alert.code) for t, volume in enumerate(volumes) for alert in alerts.push(volume)]


def test_a_good_run_raises_no_alert() -> None:
    assert run(Alerts(baseline=Baseline(1000.0, 80.0)), [GOOD] * 300) == []
    assert Alerts().finish() == []
    assert run(Alerts(), [VolumeFigures()] * 50) == []


def test_a_movement_is_reported_once_with_its_trials_and_what_to_do_and_so_is_its_end() -> None:
    alerts = Alerts()
    moving = [changed(fd_mm=fd, censored=True, trials=t) for fd, t in ((0.9, (4,)), (1.6, (4, 5)), (0.7, (5, 6)))]
    raised = [alert for volume in [GOOD] * 40 + moving + [GOOD] * 10 for alert in alerts.push(volume)]
    assert raised == [
        Alert(
            "quality.motion",
            "The head moved 0.9 mm from one volume to the next (limit 0.5 mm). Ask the participant to lie still."
            " Trial 4 is flagged.",
            "warning",
        ),
        Alert(
            "quality.motion.over",
            "The head is still again; it moved up to 1.6 mm from volume to volume. Trials 4, 5 and 6 are flagged.",
            "info",
        ),
    ]


def test_many_trials_are_counted() -> None:
    alerts = Alerts()
    volumes = [changed(fd_mm=1.0, censored=True, trials=(k,)) for k in range(3, 12)]
    run(alerts, volumes)
    texts = [alert.text for alert in alerts.finish() if alert.code == "quality.motion.over"]
    assert texts[0].endswith(" 9 trials are flagged, 3 to 11.")


BAD = {
    "fd_mm": changed(fd_mm=0.6),
    "displacement_mm": changed(displacement_mm=3.1),
    "censored_share": changed(censored=True),
    "dvars_ratio": changed(dvars_percent=1.6),
    "tsnr_ratio": changed(tsnr=30.0),
    "tsnr_start_ratio": changed(tsnr=55.0),
    "drift_percent": changed(mean_signal=1035.0),
    "signal_percent": changed(mean_signal=650.0),
    "residual": changed(residual=0.25),
    "outlier_share": changed(outlier_share=0.1),
    "spikes": changed(spike=True),
    "unplaced": changed(unplaced=True),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_each_rule_begins_beyond_its_limit_ends_when_quiet_and_can_be_switched_off(rule: object) -> None:
    code, figure = rule.code, rule.figure  # type: ignore[attr-defined]
    baseline = Baseline(mean_signal=1000.0, tsnr=80.0)
    volumes = [GOOD] * 40 + [BAD[figure]] * 8 + [GOOD] * 60
    raised = run(Alerts(baseline=baseline), volumes)
    mine = [(t, c) for t, c in raised if c.startswith(code) and c.removeprefix(code) in ("", ".over")]
    assert [c for _, c in mine] == [code, f"{code}.over"]
    (begin, _), (end, _) = mine
    assert 40 <= begin < 48
    assert 57 <= end < 100
    off = QualityLimits(**{figure: None})
    assert not [c for _, c in run(Alerts(off, baseline), volumes) if c.removesuffix(".over") == code]
    if figure not in ("unplaced", "spikes", "outlier_share", "censored_share"):
        just_inside = QualityLimits(**{figure: 0.1 if figure.startswith("tsnr") else 99.0})
        assert not [c for _, c in run(Alerts(just_inside, baseline), volumes) if c.removesuffix(".over") == code]


def test_every_figure_has_a_rule_and_every_limit_a_user() -> None:
    limits = {field.name for field in fields(QualityLimits) if not field.name.endswith("_volumes")}
    assert {rule.figure for rule in RULES} == limits == set(BAD)
    assert len({rule.code for rule in RULES}) == len(RULES)


def test_one_volume_beyond_a_slow_limit_raises_no_alert() -> None:
    """A mean signal that is off once is no drift, and a head that is away once (a bad estimate) is no new place."""
    volumes = [GOOD] * 40
    for figure in ("displacement_mm", "drift_percent", "signal_percent", "residual"):
        volumes += [BAD[figure], GOOD]
    assert run(Alerts(baseline=Baseline(1000.0, 80.0)), volumes) == []


def test_the_first_volumes_are_no_drift() -> None:
    """The signal of the first volumes is higher, until the magnetisation is steady."""
    volumes = [changed(mean_signal=level, dvars_percent=d) for level, d in ((2000, 50), (1300, 20), (1050, 5))]
    assert run(Alerts(), volumes + [GOOD] * 100) == []


def test_there_is_no_storm_on_a_noisy_trace() -> None:
    """FD that crosses its limit 200 times in a run of 1000 volumes, at random, in bursts and in a saw-tooth."""
    rng = np.random.default_rng(0)
    bursts = np.repeat(rng.random(100) < 0.2, 10) * 0.6
    for trace in (rng.gamma(2.0, 0.17, 1000), bursts, np.tile([0.55, 0.45], 500), np.tile([0.9] + [0.1] * 14, 67)):
        assert (np.diff((trace > 0.5).astype(int)) == 1).sum() > 10
        raised = run(Alerts(), [changed(fd_mm=float(fd)) for fd in trace])
        assert 1 <= len(raised) <= 2 * math.log2(1000 / 10 + 1) + 1
        codes = [code for _, code in raised]
        assert codes == (["quality.motion", "quality.motion.over"] * len(codes))[: len(codes)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 2.0) | st.just(math.nan) | st.none(), max_size=300), st.integers(1, 20))
def test_any_trace_alternates_and_is_bounded(trace: list[float | None], quiet_volumes: int) -> None:
    limits = QualityLimits(quiet_volumes=quiet_volumes)
    codes = [code for _, code in run(Alerts(limits), [VolumeFigures(fd_mm=fd) for fd in trace])]
    assert codes == (["quality.motion", "quality.motion.over"] * len(codes))[: len(codes)]
    assert len(codes) <= 2 * math.log2(len(trace) / quiet_volumes + 1) + 1


def test_much_motion_is_more_than_motion() -> None:
    volumes = [changed(fd_mm=0.8 if t % 3 else 0.1, censored=bool(t % 3)) for t in range(30)]
    alerts = Alerts()
    raised = [alert for volume in volumes for alert in alerts.push(volume)]
    assert [(alert.code, alert.level) for alert in raised] == [
        ("quality.motion", "warning"),
        ("quality.motion_often", "error"),
    ]
    assert "repeating the run" in raised[1].text
    assert [alert.code for alert in alerts.finish()] == ["quality.motion.over", "quality.motion_often.over"]
    assert alerts.finish() == []


def test_a_restored_state_raises_the_same_alerts() -> None:
    rng = np.random.default_rng(3)
    baseline = Baseline(1000.0, 80.0)
    volumes = [
        VolumeFigures(
            fd_mm=float(rng.gamma(2, 0.17)),
            dvars_percent=float(rng.gamma(9, 0.11)),
            tsnr=float(80 - t * 0.2),
            displacement_mm=t * 0.03,
            mean_signal=1000.0 + 0.4 * t,
            residual=float(rng.uniform(0, 0.3)),
            outlier_share=0.2 * int(rng.random() < 0.05),
            unplaced=bool(rng.random() < 0.02),
            spike=bool(rng.random() < 0.05),
            censored=bool(rng.random() < 0.2),
            trials=(t // 4, t // 4 + 1),
        )
        for t in range(200)
    ]
    whole = Alerts(baseline=baseline)
    expected = [whole.push(volume) for volume in volumes]
    assert sum(map(len, expected)) > 10
    part = Alerts(baseline=baseline)
    got = []
    for t, volume in enumerate(volumes):
        if t % 17 == 0:
            state, part = part.state(), Alerts(baseline=baseline)
            assert all(array.dtype != object for array in state.values())
            part.load_state(state)
        got.append(part.push(volume))
    assert got == expected
    assert part.finish() == whole.finish()


@pytest.mark.parametrize(
    "wrong", [{"fd_mm": -0.1}, {"fd_mm": math.nan}, {"tsnr_ratio": math.inf}, {"window_volumes": 0}]
)
def test_a_limit_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadRequest) as caught:
        QualityLimits(**wrong)  # type: ignore[arg-type]
    assert caught.value.code == "quality.limit"


def test_a_real_run_of_a_still_participant_raises_no_alert_until_something_is_done_to_it(shared: Path) -> None:
    """Trio, 60 volumes, motion under 0.3 mm; then the same with a jump of the head, a spike and a drift put in."""
    volumes = [
        volume for volume, _ in zip(read_series(shared / "data" / "trio_run155" / "dcm"), range(60), strict=False)
    ]
    mask_XYZ = brain_mask(volumes[0].data)
    realigner = Realigner(volumes[0])
    quality, alerts, disturbed = Quality(int(mask_XYZ.sum())), Alerts(), Alerts()
    raised: list[tuple[int, str]] = []
    for t, volume in enumerate(volumes):
        aligned = realigner.align(volume)
        voxels_V = aligned.sample(mask_XYZ)
        figures = quality.push(voxels_V, aligned.motion_6)
        measured = dict(  # noqa: C408
            fd_mm=figures.fd_mm,
            dvars_percent=figures.dvars_percent,
            tsnr=figures.tsnr,
            displacement_mm=rigid.displacement_mm(aligned.rigid, aligned.centre_mm),
            mean_signal=float(voxels_V.mean()),
            residual=aligned.residual,
            outlier_share=len(aligned.outlier_slices) / volume.shape[2],
            unplaced=not aligned.converged,
        )
        assert alerts.push(VolumeFigures(**measured)) == []
        if t == 30:
            measured["fd_mm"] = 3.0
        if t >= 40:
            measured["mean_signal"] = float(voxels_V.mean()) * 1.05
        raised += [(t, alert.code) for alert in disturbed.push(VolumeFigures(**measured, spike=t == 35))]
    assert raised[:3] == [(30, "quality.motion"), (35, "quality.spike"), (40, "quality.motion.over")]
    assert raised[3:] == [(44, "quality.drift")]
