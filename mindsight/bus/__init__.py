"""Ordered, idempotent, fenced logs, leases and work queues over Redis. The only room that imports redis."""

from mindsight.bus.connection import Bus
from mindsight.bus.embedded import EmbeddedServer
from mindsight.bus.lease import Lease
from mindsight.bus.log import Appended, ConditionFailed, Entry, Fence, Log, Unlike, read_many
from mindsight.bus.quarantine import Quarantine
from mindsight.bus.questions import Questions
from mindsight.bus.queue import MAX_DELIVERIES, DeadJob, Job, WaitingJob, WorkQueue
from mindsight.bus.servers import MAX_BLOCK_S

__all__ = [
    "MAX_BLOCK_S",
    "MAX_DELIVERIES",
    "Appended",
    "Bus",
    "ConditionFailed",
    "DeadJob",
    "EmbeddedServer",
    "Entry",
    "Fence",
    "Job",
    "Lease",
    "Log",
    "Quarantine",
    "Questions",
    "Unlike",
    "WaitingJob",
    "WorkQueue",
    "read_many",
]
