"""Spans from a session's messages: one trace for each volume, from its first byte to the pictures that it led to.

The lengths are those that the messages state (``StageLatency``). Steps of one process are laid end to end: what passed
between two of them is not measured. Names only the session, which is a pseudonym, and numbers; nothing of what was
shown or decoded. Knows nothing of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mindsight.protocol import (
    BetaReady,
    Message,
    Reconstruction,
    ReconstructionFit,
    Result,
    VolumeProcessed,
    VolumeReceived,
)

Trial = tuple[int, int, str]  # run, trial, stage
OfTrial = BetaReady | Result | Reconstruction | ReconstructionFit
Step = tuple[str, float | None]  # name, milliseconds; None: it did not happen, or is unknown


@dataclass(frozen=True)
class Span:
    """One step of a trace.

    trace : name of the trace: session, run and volume, or the run's end
    key : name of the span, unlike any other of its trace; parent : the key of the span that it is part of
    start_t, end_t : seconds since the Unix epoch
    """

    trace: str
    key: str
    name: str
    start_t: float
    end_t: float
    parent: str | None = None
    attributes: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass
class SessionSpans:
    """Makes the spans of one session from its messages, in the order of its log."""

    session: str
    _received: dict[tuple[int, int], VolumeReceived] = field(default_factory=dict)
    _waiting: dict[Trial, list[OfTrial]] = field(default_factory=dict)
    _traces: dict[Trial, str] = field(default_factory=dict)

    def take(self, message: Message) -> list[Span]:
        """What is known now. A beta is logged before the volume that completed it, and waits for that one here."""
        if isinstance(message, VolumeReceived):
            self._received[message.run, message.index] = message
        elif isinstance(message, VolumeProcessed):
            return list(self._volume(message))
        elif isinstance(message, OfTrial):
            return list(self._of_trial(message))
        return []

    def _volume(self, message: VolumeProcessed) -> Iterator[Span]:
        received = self._received.get((message.run, message.index))
        for place in [one for one in self._received if one[0] == message.run and one[1] <= message.index]:
            del self._received[place]
        if received is None:  # it came before the traces began
            return
        trace = f"{self.session}/{message.run}/{message.index}"
        about = {**self._about(message.run), "volume": message.index, "censored": message.censored}
        received_ms, took = received.latency_ms.receive or 0.0, message.latency_ms
        began_t = received.t - received_ms / 1e3
        yield Span(trace, "volume", "volume", began_t, max(message.t, received.t), None, about)
        steps = [
            ("receive", received_ms),
            ("queue", took.queue),
            ("motion", took.motion),
            ("glm", took.glm),
            ("estimate", took.estimate),
        ]
        yield from _chain(trace, "volume", "", began_t, steps)
        yield from self._resolve(message.run, trace)

    def _of_trial(self, message: OfTrial) -> Iterator[Span]:
        trial = message.run, message.trial, message.stage
        if trial in self._traces:
            yield from self._steps(message, self._traces[trial])
        elif isinstance(message, BetaReady):
            self._waiting[trial] = [message]
            if not any(run == message.run for run, _ in self._received):  # no volume completed it: the run's end did
                trace = f"{self.session}/{message.run}/end/{message.trial}"
                began_t = message.t - (message.latency_ms.beta or 0.0) / 1e3
                yield Span(trace, "volume", "run end", began_t, message.t, None, self._about(message.run))
                yield from self._resolve(message.run, trace)
        elif trial in self._waiting:
            self._waiting[trial].append(message)

    def _resolve(self, run: int, trace: str) -> Iterator[Span]:
        for trial in [one for one in self._waiting if one[0] == run]:
            self._traces[trial] = trace
            for message in self._waiting.pop(trial):
                yield from self._steps(message, trace)

    def _steps(self, message: OfTrial, trace: str) -> Iterator[Span]:
        about = {**self._about(message.run), "trial": message.trial, "stage": message.stage}
        of, took, beta = (
            f"-{message.trial}-{message.stage}",
            message.latency_ms,
            f"beta-{message.trial}-{message.stage}",
        )
        if isinstance(message, BetaReady):
            if took.beta is not None:
                yield Span(trace, beta, "beta", message.t - took.beta / 1e3, message.t, "volume", about)
        elif isinstance(message, Result):
            if took.retrieval is not None:
                start_t = message.t - took.retrieval / 1e3
                yield Span(trace, f"retrieval{of}", "retrieval", start_t, message.t, beta, about)
                steps = [("decode", took.decode), ("retrieve", took.retrieve)]
                yield from _ending(trace, f"retrieval{of}", of, message.t, steps)
        elif isinstance(message, Reconstruction):
            of = f"{of}-{message.version}"
            if took.reconstruction is not None:
                start_t = message.t - took.reconstruction / 1e3
                about["version"] = message.version
                yield Span(trace, f"reconstruction{of}", "reconstruction", start_t, message.t, beta, about)
                names = {"preview": "preview", "full": "generate", "refined": "refine"}
                name = names[message.version]
                steps = [(name, getattr(took, name))]
                yield from _ending(trace, f"reconstruction{of}", of, message.t, steps)
        else:
            yield from _ending(trace, beta, f"{of}-{message.image[:8]}", message.t, [("embed", took.embed)])

    def _about(self, run: int) -> dict[str, str | int | bool]:
        return {"session": self.session, "run": run}


def _chain(trace: str, parent: str, of: str, start_t: float, steps: Sequence[Step]) -> Iterator[Span]:
    """Steps that follow each other."""
    for name, took_ms in steps:
        if took_ms is not None:
            yield Span(trace, f"{name}{of}", name, start_t, start_t + took_ms / 1e3, parent)
            start_t += took_ms / 1e3


def _ending(trace: str, parent: str, of: str, end_t: float, steps: Sequence[Step]) -> Iterator[Span]:
    """Steps that follow each other, and of which the last has just ended."""
    return _chain(trace, parent, of, end_t - sum(took_ms or 0.0 for _, took_ms in steps) / 1e3, steps)
