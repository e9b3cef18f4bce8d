"""The service that the live tests share, and a real run that it has taken in without a disturbance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mindsight.protocol import Message, SessionArchived
from support.live import DEADLINE_S, Service, is_archived, running_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("live") / "data") as service:
        yield service


@pytest.fixture(scope="session")
def trio(service: Service, shared: Path) -> tuple[Path, list[Message]]:
    """The archive and the messages of the trio run, streamed by ``mindsight stream``."""
    run = shared / "data" / "trio_run155"
    session = service.open_session()
    sent = service.mindsight("stream", run, "--session", session, "--task", "regulation")
    assert sent.returncode == 0, sent.stderr
    assert "155 volumes acknowledged, 0 missing" in sent.stdout
    with service.console(session) as console:
        console.close_session()
    messages = service.wait(session, is_archived, DEADLINE_S)
    assert isinstance(messages[-1], SessionArchived)
    return service.settings.data_dir / messages[-1].archive, messages
