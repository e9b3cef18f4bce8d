"""One typed dataset: repeats, sessions of one mask, and what half a dataset is refused with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mindsight.errors import BadRequest
from training.datasets.trials import ArrayBetas, Dataset, SubjectTrials, joined_sessions


def trials(images: str, session: str = "1", voxels: int = 3, space: str = "a") -> SubjectTrials:
    n = len(images)
    betas = np.arange(n * voxels, dtype=np.float32).reshape(n, voxels)
    return SubjectTrials("s1", ArrayBetas(betas), tuple(images), (session,) * n, (1,) * n, space)


def test_a_trial_knows_which_showing_of_its_image_it_is() -> None:
    dataset = Dataset((trials("abacab"),))
    assert [(trial.image, trial.repeat) for trial in dataset] == list(zip("abacab", [1, 1, 2, 1, 3, 2], strict=True))
    assert [trial.beta_V.tolist() for trial in dataset][1] == [3.0, 4.0, 5.0]
    assert dataset.images == ("a", "b", "c")


def test_repeats_are_counted_over_all_sessions_of_a_subject() -> None:
    both = joined_sessions([trials("ab"), trials("ba", "2")])
    assert both.repeats == (1, 1, 2, 2)
    assert both.sessions == ("1", "1", "2", "2")
    assert both.betas.shape == (4, 3)


@pytest.mark.parametrize("other", [trials("ba", "2", voxels=4), trials("ba", "2", space="b")])
def test_betas_of_another_mask_are_refused(other: SubjectTrials) -> None:
    with pytest.raises(BadRequest, match="expected all sessions of subject s1 in one mask, session 2 has") as raised:
        joined_sessions([trials("ab"), other])
    assert raised.value.code == "dataset.mask"


def test_half_a_dataset_is_refused() -> None:
    with pytest.raises(BadRequest, match="got 2 betas, 3 images") as raised:
        SubjectTrials("s1", ArrayBetas(np.zeros((2, 3), np.float32)), ("a", "b", "c"), ("1",) * 3, (1,) * 3)
    assert raised.value.code == "dataset.half"
    with pytest.raises(BadRequest, match="expected trials to train on, got none"):
        Dataset(())
    with pytest.raises(BadRequest, match="each subject once, got s1"):
        Dataset((trials("ab"), replace(trials("cd"))))
