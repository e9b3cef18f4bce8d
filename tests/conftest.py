"""What every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from missing import missing_line

import mindsight  # noqa: F401 - first of all: makes torchvision importable, which test files may import before us

# CI tries the same examples each time, so that it judges the change; here every run looks for new ones
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scanner files and reference fixtures that lies beside a full checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data beside the checkout (../shared), which this checkout does not have")
    return SHARED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One closing line; with several workers, of all of them."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    if line := missing_line(reasons):
        terminalreporter.write_line(line, yellow=True)
