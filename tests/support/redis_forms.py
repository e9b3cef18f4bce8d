"""A bus in each of its forms: one server, a Cluster, a primary with its replica and a sentinel; real ones, on loopback.

They are the embedded server's binary, each in a folder of its own, and end with the test's process.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from mindsight.bus import EmbeddedServer
from mindsight.bus.embedded import find_server
from mindsight.processes import ending_with_parent
from mindsight.settings import Settings
from support.ports import free_port

SERVICE = "decoder"
N_SLOTS = 16384
DEADLINE_S = 120.0  # a sentinel that was held up for two seconds does nothing for thirty ("tilt")


@dataclass
class Node:
    """One server process. options : of its command line"""

    folder: Path
    options: Sequence[str] = ()
    first: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        given = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--logfile", "server.log"]
        self.process = subprocess.Popen(
            [find_server(Settings()), *self.first, *given, *self.options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=ending_with_parent(),
        )
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server on port {self.port} ended: {self.folder / 'server.log'}"
        return self.ask("PING") is not None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            self.kill()

    def ask(self, *args: Any) -> Any:
        """The raw reply; None if it does not answer."""
        with redis.Redis("127.0.0.1", self.port, protocol=2, socket_timeout=5.0, decode_responses=True) as client:
            client.response_callbacks.clear()
            try:
                return client.execute_command(*args)  # type: ignore[no-untyped-call]
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                return None

    def info(self, section: str) -> dict[str, str]:
        lines = (self.ask("INFO", section) or "").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


@dataclass
class Forms:
    """The nodes of one bus, and its address."""

    url: str
    nodes: list[Node]

    def primary_of(self, slot: int) -> Node:
        """Of a Cluster."""
        for node in self.nodes:
            for first, last, primary, *_ in node.ask("CLUSTER", "SLOTS") or []:
                if first <= slot <= last:
                    return next(one for one in self.nodes if one.port == primary[1])
        raise AssertionError(f"no node has slot {slot}")

    def join(self, node: Node, primary: Node) -> None:
        """Let a node of a Cluster follow a primary; waits until both have it so."""
        until(lambda: acquainted([node, primary]))
        node.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
        until(lambda: node.info("replication").get("master_link_status") == "up")
        until(lambda: str(node.port) in str(primary.ask("CLUSTER", "SLOTS")))

    def primary(self) -> Node:
        """Of those that a sentinel watches: it is the last node."""
        _, port = self.nodes[-1].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(port))


def until(holds: Callable[[], object]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < until_s, "the servers did not come to it in time"
        time.sleep(0.02)


@contextmanager
def one_server(folder: Path) -> Iterator[Forms]:
    with EmbeddedServer(Settings(data_dir=folder)) as server:
        yield Forms(server.url, [])


@contextmanager
def started(nodes: Sequence[Node]) -> Iterator[None]:
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        yield


DURABLE = (
    *("--appendonly", "yes", "--appendfsync", "no", "--save", "", "--repl-diskless-sync-delay", "0"),
    *("--rdbcompression", "no"),  # what a file holds can be read in it
)


def node_of_a_cluster(folder: Path) -> Node:
    cluster = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port")
    return Node(folder, [*DURABLE, *cluster, str(free_port())])


def acquainted(nodes: Sequence[Node]) -> bool:
    """Whether each knows the others of a Cluster; it meets those that it does not.

    Once is not enough: a node that is held up for longer than a node's time limit has forgotten whom it was to meet.
    """
    names = [node.ask("CLUSTER", "MYID") for node in nodes]
    strangers = 0
    for node in nodes:
        known = node.ask("CLUSTER", "NODES") or ""
        for name, other in zip(names, nodes, strict=True):
            if name is None or name not in known:
                strangers += 1
                node.ask("CLUSTER", "MEET", "127.0.0.1", other.port, other.options[-1])
    return strangers == 0


@contextmanager
def a_cluster(folder: Path, replicas: int = 0) -> Iterator[Forms]:
    """Three primaries, and ``replicas`` of each."""
    nodes = [node_of_a_cluster(folder / f"node-{number}") for number in range(3 * (1 + replicas))]
    with started(nodes):
        primaries, others = nodes[:3], nodes[3:]
        for number, node in enumerate(primaries):
            first, last = number * N_SLOTS // 3, (number + 1) * N_SLOTS // 3 - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        until(lambda: acquainted(nodes))
        found = Forms(f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}/", nodes)
        for number, node in enumerate(others):
            found.join(node, primaries[number % 3])
        until(lambda: all("cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in nodes))
        yield found


@contextmanager
def with_a_sentinel(folder: Path) -> Iterator[Forms]:
    """A primary, its replica, and the sentinel that watches them."""
    primary = Node(folder / "primary", DURABLE)
    replica = Node(folder / "replica", [*DURABLE, "--replicaof", "127.0.0.1", str(primary.port)])
    lines = (
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1",
        # after a failover it needs up to a second to reach the new primary: that is not "down"
        f"sentinel down-after-milliseconds {SERVICE} 3000",
        f"sentinel failover-timeout {SERVICE} 3000",
    )
    folder.mkdir(exist_ok=True)
    written = folder / "sentinel.conf"
    written.write_text("\n".join(lines))
    sentinel = Node(folder / "sentinel", ["--sentinel"], [str(written)])
    with started([primary, replica]):
        until(lambda: replica.info("replication").get("master_link_status") == "up")
        with started([sentinel]):
            until(lambda: sentinel.ask("SENTINEL", "REPLICAS", SERVICE))
            yield Forms(f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}", [primary, replica, sentinel])


FORMS = {"one": one_server, "cluster": a_cluster, "sentinel": with_a_sentinel}
