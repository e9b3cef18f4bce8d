"""What waits: volumes of a session, as its messages tell, and jobs of the queues. Knows nothing of watchers."""

from __future__ import annotations

from mindsight.bus import Bus, WorkQueue
from mindsight.protocol import Message, VolumeProcessed, VolumeReceived
from mindsight.protocol.stream import Lags

_QUEUES = {"betas": "inference", "pictures": "pictures", "refinements": "refinements"}


class VolumeLag:
    """How many volumes are received and not processed, as far as the messages that were seen tell."""

    def __init__(self) -> None:
        self._received: tuple[int, int] | None = None  # run, index
        self._processed: tuple[int, int] | None = None

    def see(self, message: Message) -> None:
        if isinstance(message, VolumeReceived):
            self._received = (message.run, message.index)
            if self._processed is None:  # those before the first that was seen are not known
                self._processed = (message.run, message.index - 1)
        elif isinstance(message, VolumeProcessed):
            self._processed = (message.run, message.index)

    @property
    def n(self) -> int | None:
        if self._received is None or self._processed is None:
            return None
        (run, index), (run_done, index_done) = self._received, self._processed
        return max(0, index - index_done) if run == run_done else index + 1


def queue_lags(bus: Bus) -> Lags:
    """What waits in the queues of the whole service. Raises BusUnavailable."""
    return Lags(**{name: len(WorkQueue(bus, queue)) for name, queue in _QUEUES.items()})
