"""A bus on a real Cluster of three nodes: what lies where, moves, is killed and is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from mindsight.bus import Bus, Lease, Log, WorkQueue, read_many
from mindsight.bus.connection import Script
from mindsight.bus.forget import compact, forget_logs, mentions
from mindsight.errors import BadRequest, BusUnavailable
from support.chaos import insist
from support.failover import appended_through
from support.redis_forms import Forms, a_cluster, node_of_a_cluster, started, until


def test_a_script_of_two_slots_is_refused_on_every_form_of_bus() -> None:
    with closing(Bus("redis://127.0.0.1:1")) as bus, pytest.raises(ValueError, match="hash slot"):
        bus.run(Script("return 1"), ["s:{a}:log", "q:{b}:log"], [])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forms]:
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def on_cluster(cluster: Forms) -> Iterator[Bus]:
    with closing(Bus(cluster.url)) as bus:
        yield bus


@pytest.mark.slow
def test_sessions_are_spread_and_found_all_together(cluster: Forms, on_cluster: Bus) -> None:
    logs = [Log(on_cluster, f"spread-{number}", "messages") for number in range(24)]
    for log in logs:
        log.append("a", log.session.encode())
    assert {cluster.primary_of(key_slot(log._key("log").encode())).port for log in logs} == {
        node.port for node in cluster.nodes
    }
    found = read_many(dict.fromkeys(logs, 0), block_s=1.0)
    assert {log.session: entries[0].payload.decode() for log, entries in found.items()} == {
        log.session: log.session for log in logs
    }
    assert len(mentions(on_cluster, lambda value: b"spread-" in value)) == 3 * len(logs)
    for log in logs:
        forget_logs(on_cluster, log.session)
    assert mentions(on_cluster, lambda value: b"spread-" in value) == []
    compact(on_cluster)
    assert all(node.info("persistence")["aof_last_bgrewrite_status"] == "ok" for node in cluster.nodes)


@pytest.mark.slow
def test_a_slot_that_moves_takes_its_session_along(cluster: Forms, on_cluster: Bus) -> None:
    """Before, while some keys are on their way, and after; for a bus that learns of it from a refusal."""
    log = Log(on_cluster, "moving", "input")
    with closing(Bus(cluster.url)) as late:
        again = Log(late, "moving", "input")
        log.append("v0", b"0", order=("run-1", 0))
        assert again.next_index("run-1") == 1
        slot = key_slot(b"moving")
        source = cluster.primary_of(slot)
        target = next(node for node in cluster.nodes if node is not source)
        ids = {node.port: node.ask("CLUSTER", "MYID") for node in (source, target)}
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10)
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", keys[0])
        with pytest.raises(BusUnavailable, match="moving"):
            log.append("v1", b"1", order=("run-1", 1))
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[1:])
        assert again.next_index("run-1") == 1, "one key is asked for where it is now"
        for node in (target, source):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
        assert log.append("v0", b"0", order=("run-1", 0)).duplicate
        log.append("v1", b"1", order=("run-1", 1))
        assert again.next_index("run-1") == 2
    assert [entry.payload for entry in log.read()] == [b"0", b"1"]
    assert source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 0


@pytest.mark.slow
def test_a_node_that_is_away_costs_its_sessions_and_no_others(tmp_path: Path) -> None:
    with a_cluster(tmp_path) as cluster, closing(Bus(cluster.url)) as bus:
        lost = cluster.primary_of(key_slot(b"s-0"))
        there = next(f"s-{n}" for n in range(99) if cluster.primary_of(key_slot(f"s-{n}".encode())) is not lost)
        for session in ("s-0", there):
            Log(bus, session, "input").append("a", b"")
        lost.kill()
        with pytest.raises(BusUnavailable):
            Log(bus, "s-0", "input").append("b", b"")
        assert insist(lambda: Log(bus, there, "input").append("b", b"").seq) == 2
        lost.start()
        assert insist(lambda: Log(bus, "s-0", "input").append("b", b"").seq) == 2


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_primaries_are_killed(tmp_path: Path) -> None:
    with a_cluster(tmp_path, replicas=1) as cluster:

        def strike() -> None:
            primary = cluster.primary_of(key_slot(b"s"))
            primary.kill()
            until(lambda: cluster.primary_of(key_slot(b"s")) is not primary)
            primary.start()

        appended_through(f"{cluster.url}?replicas=1", strike, blows=2)


@pytest.mark.slow
def test_an_erasure_reaches_the_files_of_replicas(tmp_path: Path) -> None:
    """Those too that began to follow after the bus had learnt who is there."""
    late = node_of_a_cluster(tmp_path / "late")
    with (
        a_cluster(tmp_path, replicas=1) as cluster,
        closing(Bus(f"{cluster.url}?replicas=1")) as bus,
        started([late]),
    ):
        assert "replicas: 3" in bus.about()
        Log(bus, "ses-erased", "input").append("a", b"")
        cluster.join(late, cluster.primary_of(key_slot(b"ses-erased")))
        folders = [node.folder for node in (*cluster.nodes, late)]
        until(lambda: sum(_holds(folder, b"ses-erased") for folder in folders) == 3)
        forget_logs(bus, "ses-erased")
        compact(bus)
        assert not any(_holds(folder, b"ses-erased") for folder in folders)


def _holds(folder: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in (folder / "appendonlydir").iterdir())


@pytest.mark.slow
def test_a_wrong_form_of_address_and_a_wrong_password_are_told_in_one_line(cluster: Forms) -> None:
    host = cluster.url.removeprefix("redis+cluster://").partition(",")[0]
    with closing(Bus(f"redis://{host}")) as bus, pytest.raises(BadRequest, match=r"redis\+cluster://"):
        bus.ping()
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "requirepass", "right")
    try:
        for login in ("", ":wrong@"):
            with closing(Bus(f"redis+cluster://{login}{host}/")) as bus, pytest.raises(BusUnavailable) as refused:
                bus.wait_ready(30.0)
            assert refused.value.code == "bus.password"
        with closing(Bus(f"redis+cluster://:right@{host}/")) as bus:
            assert bus.about().startswith("a Cluster, primaries: 3, replicas: 0 (")
    finally:
        for node in cluster.nodes:
            with redis.Redis("127.0.0.1", node.port, password="right") as client:
                client.config_set("requirepass", "")


@pytest.mark.slow
def test_a_zombie_is_fenced_across_servers(cluster: Forms, on_cluster: Bus) -> None:
    """The session's fence and the queue lie on two nodes."""
    queue = WorkQueue(on_cluster, "inference")
    at_queue = cluster.primary_of(key_slot(b"inference"))
    session = next(f"z-{n}" for n in range(99) if cluster.primary_of(key_slot(f"z-{n}".encode())) is not at_queue)
    leases = [Lease.acquire(on_cluster, session, "worker", 30.0, is_gone=lambda _: True) for _ in range(2)]
    zombie, successor = (lease for lease in leases if lease is not None)
    queue.admit(successor.fence)
    queue.put("job", b"", fence=successor.fence)
    with pytest.raises(Exception, match="another worker"):
        queue.put("late", b"", fence=zombie.fence)
    assert len(queue) == 1
