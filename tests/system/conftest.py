"""The service that the live tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.live import Service, running_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("live") / "data") as service:
        yield service
