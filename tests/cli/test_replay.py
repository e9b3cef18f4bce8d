"""``mindsight replay`` reads its options before anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from mindsight.cli import app
from mindsight.errors import BadRequest


@pytest.mark.parametrize(("speed", "code"), [("fast", "cli.speed"), ("max", "cli.to"), ("2.5", "cli.to")])
def test_a_wrong_speed_is_refused_and_so_is_a_run_without_a_destination(speed: str, code: str, tmp_path: Path) -> None:
    failed = CliRunner().invoke(app, ["replay", str(tmp_path), "--speed", speed]).exception
    assert isinstance(failed, BadRequest)
    assert failed.code == code
