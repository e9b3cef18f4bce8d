"""A bus whose primary is named by a real sentinel, and changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mindsight.bus import Bus, Log
from mindsight.bus.forget import compact, forget_logs
from mindsight.errors import BadRequest, BusUnavailable
from support.failover import appended_through
from support.redis_forms import Forms, until, with_a_sentinel

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forms]:
    with with_a_sentinel(tmp_path_factory.mktemp("sentinel")) as watched:
        yield watched


def test_it_says_whom_it_is_connected_to(watched: Forms) -> None:
    with closing(Bus(watched.url)) as bus:
        bus.ping()
        assert bus.about().endswith("the primary of decoder by its sentinels, replicas: 1")


def test_a_wrong_name_or_form_is_told_in_one_line(watched: Forms) -> None:
    with closing(Bus(watched.url + "-not")) as bus, pytest.raises(BusUnavailable, match="name no primary"):
        bus.ping()
    itself = f"redis://127.0.0.1:{watched.nodes[-1].port}"
    with closing(Bus(itself)) as bus, pytest.raises(BadRequest, match=r"redis\+sentinel://"):
        bus.ping()


def test_an_erasure_reaches_the_replica_s_file(watched: Forms) -> None:
    with closing(Bus(f"{watched.url}?replicas=1")) as bus:
        Log(bus, "ses-erased", "input").append("a", b"")
        forget_logs(bus, "ses-erased")
        compact(bus)
        for node in watched.nodes[:2]:
            assert not any(b"ses-erased" in path.read_bytes() for path in node.folder.rglob("*.aof"))


def test_nothing_acknowledged_is_lost_when_the_primary_is_killed(tmp_path: Path) -> None:
    with with_a_sentinel(tmp_path) as watched:

        def strike() -> None:
            primary = watched.primary()
            primary.kill()
            until(lambda: watched.primary() is not primary)
            # as a service manager starts it: the sentinel then makes it the replica of the new primary
            primary.start()
            until(lambda: primary.info("replication").get("master_link_status") == "up")

        appended_through(f"{watched.url}?replicas=1", strike, blows=2)


def test_without_replicas_that_confirm_a_write_is_not_acknowledged(tmp_path: Path) -> None:
    with with_a_sentinel(tmp_path) as watched, closing(Bus(f"{watched.url}?replicas=1", timeout_s=0.5)) as bus:
        log = Log(bus, "s", "input")
        log.append("a", b"")
        replica = next(node for node in watched.nodes[:2] if node is not watched.primary())
        replica.kill()
        with pytest.raises(BusUnavailable, match="by 0 of the 1 replicas") as refused:
            log.append("b", b"")
        assert refused.value.code == "bus.replicas"
        replica.start()
        until(lambda: replica.info("replication").get("master_link_status") == "up")
        assert log.append("b", b"").duplicate
