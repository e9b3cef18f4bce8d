from __future__ import annotations

import typer

from mindsight.cli.become import become


def calibrate(context: typer.Context) -> None:
    """Make a subject bundle from recorded runs: RUN... --decoder linear --labels trial_type --out BUNDLE."""
    become("calibrate", "training.calibration", *context.args)
