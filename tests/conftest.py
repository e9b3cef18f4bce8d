"""What every room's tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import mindsight  # noqa: F401 - first of all: makes torchvision importable, which test files may import before us
import support.one_thread  # noqa: F401 - before NumPy, which reads once how many threads it may use
from support.missing import missing_line

# Thousands of modules live until the end: looking through them for garbage took a tenth of the tests' time.
gc.disable()

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


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A command that is run in this process changes it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


# Files that take longest, longest first: with several processes the run is over when the last of them is, and a file
# that waits for other processes is best begun while there is much else to do.
_LONGEST = (
    "system/test_live_folder.py",
    "system/test_live_trio.py",
    "system/test_live_network.py",
    "system/test_demo.py",
    "training/calibration/test_command.py",
    "workers/ingest/test_worker.py",
    "workers/inference/test_worker.py",
    "preprocessing/registration/test_session_reference.py",
    "training/calibration/test_released_bundle.py",
    "ingest/test_disturbed.py",
    "training/calibration/test_glm_choice.py",
    "dashboard/test_page.py",
)
# Their files share a running service and the trio's run through it, which one process can hold.
_TOGETHER = "tests/system/test_live_"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests go to one process, and so do those of the files that share what is costly."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return _TOGETHER if file.startswith(_TOGETHER) else file

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path.as_posix()))


def _rank(path: str) -> int:
    return next((rank for rank, name in enumerate(_LONGEST) if path.endswith(f"/tests/{name}")), len(_LONGEST))


def pytest_collection_finish() -> None:
    """What was imported is not looked at again; what tests make is."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that long tests measured, and one closing line; with several workers, of all of them."""
    for report in terminalreporter.stats.get("passed", []):
        for figures in (value for name, value in report.user_properties if name == "figures"):
            terminalreporter.write_line(str(figures))
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    if line := missing_line(reasons):
        terminalreporter.write_line(line, yellow=True)
