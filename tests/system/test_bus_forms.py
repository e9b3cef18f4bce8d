"""A whole visit over a Cluster, and over a primary that a sentinel names: what came out is what one server gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from mindsight.protocol import Message
from support.chaos import Found, compare, play, served, short_visit
from support.ports import free_port
from support.redis_forms import Forms, a_cluster, until, with_a_sentinel

pytestmark = pytest.mark.slow

SESSION = "visit"


@pytest.fixture(scope="module")
def visit() -> Any:
    return short_visit()


@pytest.fixture(scope="module")
def truth(visit: Any, tmp_path_factory: pytest.TempPathFactory) -> Sequence[Message]:
    """The messages of the visit over the embedded server."""
    folder = tmp_path_factory.mktemp("one")
    with served(folder / "data", free_port()) as service:
        with service.console(folder / "spool") as console:
            subject = console.enrol("demo")
        console = service.console(folder / "spool")
        console.open_session(subject, session=SESSION)
        play(console, visit, 0.0, {})
        return service.archived(SESSION)[1]


def streamed(
    folder: Path, url: str, visit: Any, truth: Sequence[Message], strike: Callable[[], None] | None = None
) -> Found:
    """The visit over this bus, which is struck when a third of its volumes is acknowledged."""
    found, acks = Found(), dict[Any, str]()
    n_volumes = sum(len(volumes) for _, volumes in visit)
    with served(folder / "data", free_port(), url) as service:
        with service.console(folder / "spool") as console:
            subject = console.enrol("demo")
        console = service.console(folder / "spool")
        console.open_session(subject, session=SESSION)
        player = threading.Thread(target=play, args=(console, visit, 0.05 if strike else 0.0, acks))
        player.start()
        if strike:
            until(lambda: len(acks) > n_volumes / 3)
            strike()
        player.join(300.0)
        assert len(acks) == n_volumes
        compare(service, SESSION, visit, acks, truth, found)
    print(found.summary())
    return found


def test_a_cluster_gives_what_one_server_gives(tmp_path: Path, visit: Any, truth: Sequence[Message]) -> None:
    with a_cluster(tmp_path / "bus") as cluster:
        slots = {name: key_slot(name.encode()) for name in (SESSION, "inference", "all")}
        assert len({cluster.primary_of(slot).port for slot in slots.values()}) > 1
        found = streamed(tmp_path, cluster.url, visit, truth)
    assert found.faults == []
    assert found.n_results > 0


def primary_of_session(cluster: Forms) -> None:
    slot = key_slot(SESSION.encode())
    primary = cluster.primary_of(slot)
    primary.kill()
    until(lambda: cluster.primary_of(slot) is not primary)
    primary.start()


def primary_of_sentinel(watched: Forms) -> None:
    primary = watched.primary()
    primary.kill()
    until(lambda: watched.primary() is not primary)
    primary.start()


@pytest.mark.parametrize("form", ["cluster", "sentinel"])
def test_a_primary_that_is_killed_loses_nothing(
    tmp_path: Path, visit: Any, truth: Sequence[Message], form: str
) -> None:
    with a_cluster(tmp_path / "bus", replicas=1) if form == "cluster" else with_a_sentinel(tmp_path / "bus") as bus:
        strike = primary_of_session if form == "cluster" else primary_of_sentinel
        found = streamed(tmp_path, f"{bus.url}?replicas=1", visit, truth, lambda: strike(bus))
    assert found.faults == []
