"""One voxel's fit and its band are those of the estimator that the betas come from."""

from __future__ import annotations

import numpy as np
import pytest

from mindsight.errors import BadRequest
from mindsight.glm import StreamingGLM
from mindsight.glm.design import lss_design
from mindsight.glm.streaming import Noise
from support.glm_oracle import make_run


def pushed(noise: Noise, n_frames: int = 90) -> tuple[StreamingGLM, np.ndarray]:
    run = make_run(n_voxels=20)
    glm = StreamingGLM(20, run.tr_s, noise=noise, n_confounds=run.confounds_TC.shape[1])
    for event in run.events:
        glm.add_event(event)
    for y_V, confounds_C in zip(run.series_TV[:n_frames], run.confounds_TC, strict=False):
        glm.push(y_V, confounds_C)
    return glm, run.series_TV[:n_frames]


def test_without_whitening_it_is_least_squares_with_the_textbook_s_error() -> None:
    glm, series_TV = pushed("ols")
    trial = glm.started[0]
    course = glm.course(3, trial)
    events, (regressors_TK,), nuisance_TP = glm._parts()
    design_TP = lss_design(regressors_TK, [event.trial for event in events].index(trial), nuisance_TP)
    y_T = series_TV[:, 3].astype(np.float64)
    beta_P, *_ = np.linalg.lstsq(design_TP, y_T, rcond=None)
    left_T = y_T - design_TP @ beta_P
    variance = left_T @ left_T / (len(y_T) - np.linalg.matrix_rank(design_TP))
    hat_TT = design_TP @ np.linalg.pinv(design_TP)
    np.testing.assert_allclose(course.data_T, y_T, rtol=1e-6)
    np.testing.assert_allclose(course.fit_T, design_TP @ beta_P, rtol=1e-5)
    np.testing.assert_allclose(course.error_T, np.sqrt(variance * np.diag(hat_TT)), rtol=1e-3)
    assert beta_P[0] == pytest.approx(glm.beta(trial)[3], rel=1e-4)


def test_with_whitening_the_fit_holds_the_trial_s_beta() -> None:
    """What the fit gains over a design without the trial's column is its beta times the column."""
    glm, _ = pushed("ar1")
    trial = glm.started[2]
    course = glm.course(5, trial)
    events, (regressors_TK,), nuisance_TP = glm._parts()
    design_TP = lss_design(regressors_TK, [event.trial for event in events].index(trial), nuisance_TP)
    beta_P, *_ = np.linalg.lstsq(design_TP, course.fit_T, rcond=None)
    assert beta_P[0] == pytest.approx(glm.beta(trial)[5], rel=1e-4)
    assert np.isfinite(course.error_T).all()
    assert (course.error_T > 0).all()


def test_without_a_trial_one_response_to_all_events_is_fitted() -> None:
    glm, _ = pushed("ar1")
    assert glm.course(0).fit_T.shape == (90,)


def test_one_volume_is_not_enough() -> None:
    glm, _ = pushed("ols", 1)
    with pytest.raises(BadRequest, match="two volumes"):
        glm.course(0)
