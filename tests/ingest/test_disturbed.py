"""A run of 300 volumes with 5 spikes, a 3 mm jump and a 10-second gap, against the same run without them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from mindsight.glm import Event, StreamingGLM
from mindsight.ingest import IngestOptions, IngestSession
from mindsight.ingest.outputs import TrialBeta, VolumeReport
from mindsight.ingest.run import RESPONSE_S
from mindsight.ingest.space import SubjectSpace
from mindsight.preprocessing import brain_mask
from mindsight.simulator.experiment import RunPlan, Shown
from mindsight.simulator.participant import Participant
from mindsight.simulator.scanner import Noise, SimulatedScanner
from mindsight.volume import Volume
from support.ingest_world import Ticks

N_VOLUMES = 300
TR_S = 1.5
N_TRIALS = 36
SPIKES = (40, 95, 133, 214, 262)
JUMP = 170
GAP = tuple(range(230, 237))  # 10.5 s
JUMP_6 = np.array([2.2, 2.0, -0.4, 0.0, 0.0, 0.01])  # 3.0 mm


class JumpingScanner(SimulatedScanner):
    """The head may lie elsewhere from one volume on; noise is as without the jump."""

    def __init__(self, participant: Participant, seed: int, noise: Noise) -> None:
        super().__init__(participant, seed, noise)
        self.jump_6 = np.zeros(6)
        self._clean: dict[bytes, NDArray[np.float64]] = {}

    def poses(self, plan: RunPlan) -> NDArray[np.float64]:
        poses = super().poses(plan)
        poses[JUMP:] += self.jump_6
        return poses

    def clean_volume(self, pose: NDArray[np.float64], percent_V: NDArray[np.float64]) -> NDArray[np.float64]:
        key = pose.tobytes()
        if key not in self._clean:
            self._clean[key] = super().clean_volume(pose, percent_V)
        return self._clean[key]


@pytest.fixture(scope="module")
def plan() -> RunPlan:
    shown = tuple(Shown(k + 1, 12.0 + 12.0 * k, 3.0, k % 12) for k in range(N_TRIALS))
    return RunPlan(1, shown, TR_S, N_VOLUMES)


@pytest.fixture(scope="module")
def runs(plan: RunPlan) -> list[list[Volume]]:
    """Undisturbed and with the jump."""
    tokens_NTD = np.random.default_rng(0).normal(size=(40, 16, 8))
    participant = Participant(1, tokens_NTD)
    responses_NV = participant.responses(tokens_NTD[:12])
    scanner = JumpingScanner(participant, 3, Noise(jumps=0, spikes=0))
    still = list(scanner.run(plan, responses_NV))
    scanner.jump_6 = JUMP_6
    return [still, list(scanner.run(plan, responses_NV))]


def disturbed(volumes: list[Volume]) -> Iterator[Volume]:
    for volume in volumes:
        if volume.index in SPIKES:
            data = volume.data.copy()
            data[..., volume.index % 2 :: 2] = (0.85 * data[..., volume.index % 2 :: 2]).astype(data.dtype)
            volume = Volume(data, volume.affine, volume.tr_s, volume.run, volume.index)
        if volume.index not in GAP:
            yield volume


def through(
    volumes: Iterator[Volume], space: SubjectSpace, plan: RunPlan
) -> tuple[dict[int, VolumeReport], list[TrialBeta], NDArray[np.float64]]:
    """Reports by volume, all answers, and (K, V) the standard errors of the final ones."""
    session = IngestSession(IngestOptions(noise="ols"), space, clock=Ticks())
    session.start_run(1, TR_S, N_VOLUMES)
    glm = StreamingGLM(space.n_voxels, TR_S, n_confounds=6)
    for shown in plan.shown:
        event = Event(shown.onset_s, shown.duration_s, shown.trial)
        session.add_event(1, event)
        glm.add_event(event)
    reports: dict[int, VolumeReport] = {}
    answers = []
    for volume in volumes:
        while session.n_volumes < volume.index:
            answers += session.mark_missing(1, session.n_volumes)
        output = session.push(volume)
        reports[volume.index] = output.report
        answers += output.betas
    for i, y_V in enumerate(session.run_series(1)):
        report = reports.get(i)
        motion_6 = np.zeros(6) if report is None else np.array([*report.translation_mm, *report.rotation_rad])
        glm.push(y_V, motion_6, censored=report is None or report.censored)
    answers += session.end_run(1)
    return reports, answers, np.array([glm.estimate(shown.trial).error_V for shown in plan.shown])


def by_trial(answers: list[TrialBeta], stage: str) -> dict[int, TrialBeta]:
    return {answer.trial: answer for answer in answers if answer.stage == stage}


@pytest.mark.slow
def test_betas_stay_and_the_trials_concerned_are_flagged(plan: RunPlan, runs: list[list[Volume]]) -> None:
    """Stated error: a beta that is not flagged differs from the undisturbed one by less than its own noise.

    That is, root mean square over voxels, by 1 standard error of a difference (the root of the sum of the squares of
    both standard errors); before the jump, after which the head lies in other noise, by half of that.
    """
    still, jumping = runs
    space = SubjectSpace(still[0], brain_mask(still[0].data))
    reports, answers, error_KV = through(iter(still), space, plan)
    assert not any(report.censored for report in reports.values())
    assert not any(answer.flagged for answer in answers)
    reports, disturbed_answers, disturbed_error_KV = through(disturbed(jumping), space, plan)
    censored = {i for i, report in reports.items() if report.censored}
    # The first volume of the new place still differs from the last sound one of the old place.
    assert {*SPIKES, JUMP} <= censored <= {*SPIKES, JUMP, JUMP + 1}
    assert reports[JUMP].fd_mm > 3.0

    lost_s = TR_S * np.array([*censored, *GAP])
    hit = {
        shown.trial
        for shown in plan.shown
        if ((lost_s >= shown.onset_s) & (lost_s <= shown.onset_s + shown.duration_s + RESPONSE_S)).any()
    }
    finals, disturbed_finals = by_trial(answers, "final"), by_trial(disturbed_answers, "final")
    assert {trial for trial, answer in disturbed_finals.items() if answer.flagged} == hit
    assert 6 < len(hit) < 14
    for stage, wait_s in (("fast", 7.5), ("revised", 27.5)):
        for trial, answer in by_trial(disturbed_answers, stage).items():
            now_s = TR_S * np.ceil((plan.shown[trial - 1].onset_s + wait_s) / TR_S) - TR_S
            start_s = plan.shown[trial - 1].onset_s
            assert answer.flagged == ((lost_s >= start_s) & (lost_s <= min(now_s, start_s + 3.0 + RESPONSE_S))).any()

    error_K = np.empty(N_TRIALS)
    for k, trial in enumerate(finals):
        difference_V = disturbed_finals[trial].beta_V - finals[trial].beta_V
        error_K[k] = np.sqrt(np.mean(difference_V**2 / (error_KV[k] ** 2 + disturbed_error_KV[k] ** 2)))
    whole_K = np.array([trial not in hit for trial in finals])
    before_K = np.array([shown.onset_s + 30.0 < JUMP * TR_S for shown in plan.shown])
    print(f"flagged {sorted(hit)}; errors {error_K.round(2)}")
    assert error_K[whole_K].max() < 1.0
    assert error_K[whole_K & before_K].max() < 0.5
