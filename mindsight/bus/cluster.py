"""A bus on a Redis Cluster: each key lies in one of 16,384 slots, and each slot on one primary.

Knows nothing of logs or queues. Which primary has a slot is learnt from any node, and again when a node is lost or
says that a slot has moved. redis-py's own cluster client is not used: it repeats commands by itself, longer than a
command may take here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from mindsight.bus.address import Address, Place
from mindsight.bus.servers import Server, client_of


class Cluster:
    """All nodes of a Cluster. May be shared between threads."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._nodes: dict[Place, Server] = {}
        self._places = list(address.places)  # in the order in which they are asked
        self._slots: list[Server | None] | None = None

    def at(self, key: bytes | None) -> Server:
        if key is None:
            return self.primaries()[0]
        server = self._known()[key_slot(key)]
        if server is None:
            raise redis.exceptions.ClusterDownError("no node serves this key's slot")
        return server

    def slot(self, key: bytes) -> int:
        return key_slot(key)

    def primaries(self) -> list[Server]:
        found = list(dict.fromkeys(self._known()))
        if None in found:
            raise redis.exceptions.ClusterDownError("no node serves some slots")
        return [server for server in found if server is not None]

    def replicas(self) -> list[Server]:
        """Asked anew, and of every primary: others learn late who follows it."""
        found: dict[Place, None] = {}
        for primary in self.primaries():
            (rows,) = primary.ask([("CLUSTER", "SLOTS")])
            if isinstance(rows, Exception):
                raise rows
            found.update(dict.fromkeys(_followers(rows, primary)))
        with self._lock:
            return [self._node(place) for place in found]

    def redirected(self, host: str, port: int, by: Server, *, for_good: bool) -> Server:
        place = (host or by.host, port)
        with self._lock:
            if for_good:
                self._slots = None
                self._first(place)
            return self._node(place)

    def lost(self, server: Server) -> None:
        with self._lock:
            self._slots = None
            for place in [place for place in self._places if self._nodes.get(place) is server]:
                self._places.remove(place)
                self._places.append(place)

    def about(self) -> str:
        primaries = self.primaries()
        return f"a Cluster, primaries: {len(primaries)}, replicas: {len(self.replicas())} ({primaries[0].about()})"

    def close(self) -> None:
        with self._lock:
            for server in self._nodes.values():
                server.close()

    def _known(self) -> list[Server | None]:
        with self._lock:
            if self._slots is None:
                self._slots = self._learn()
            return self._slots

    def _learn(self) -> list[Server | None]:
        """Ask one node after another, as long as a command may take."""
        until_s = time.monotonic() + self._timeout_s
        failed: Exception = redis.exceptions.ConnectionError("no node of the Cluster answers")
        for place in list(self._places):
            server = self._node(place)
            try:
                (reply,) = server.ask([("CLUSTER", "SLOTS")])
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
                failed = error
                self.lost(server)
                if time.monotonic() > until_s:
                    break
            else:
                if isinstance(reply, Exception):
                    raise reply
                return self._laid_out(reply, server)
        raise failed

    def _laid_out(self, rows: Sequence[Any], by: Server) -> list[Server | None]:
        """rows : first and last slot, then primary and replicas, each with host and port"""
        slots: list[Server | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        places: list[Place] = []
        for first, last, primary, *_ in rows:
            place = _place(primary, by)
            places.append(place)
            slots[first : last + 1] = [self._node(place)] * (last + 1 - first)
        self._places = list(dict.fromkeys([*places, *_followers(rows, by), *self._address.places]))
        return slots

    def _node(self, place: Place) -> Server:
        if place not in self._nodes:
            make = partial(client_of, self._address.url_of(place), self._timeout_s)
            self._nodes[place] = Server(make, self._timeout_s, "cluster", place[0])
        return self._nodes[place]

    def _first(self, place: Place) -> None:
        self._places = list(dict.fromkeys([place, *self._places]))


def _followers(rows: Sequence[Any], by: Server) -> list[Place]:
    """Where the replicas of a slot table are."""
    return [_place(replica, by) for _, _, _, *replicas in rows for replica in replicas]


def _place(node: Sequence[Any], by: Server) -> Place:
    """A node that does not know its own host is reached at the one that was asked."""
    host = (node[0] or b"").decode()
    return (host if host not in ("", "?") else by.host, int(node[1]))
