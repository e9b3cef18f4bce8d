"""Kills and pauses at random, in short; ``make chaos`` is the long form."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chaos import Plan, campaign
from support.ports import free_port


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_while_processes_are_killed(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    found = campaign(tmp_path, Plan(seed=3, n_blows=10, n_sessions=2), free_port())
    record_property("figures", f"chaos: {found.summary()}")
    assert found.faults == []
    assert sum(found.blows.values()) == 10
    assert found.n_acknowledged > 50
    assert found.n_betas > 0
    assert found.n_results > 0
