"""The outcome of a demo: accuracy, controls, ceiling and latencies, as JSON and as text.

Knows nothing of how the demo is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindsight.accuracy import Accuracy
from mindsight.protocol import (
    BetaReady,
    Message,
    Reconstruction,
    ReconstructionSkipped,
    Result,
    VolumeProcessed,
    VolumeReceived,
)
from mindsight.simulator.demo import N_POOL
from mindsight.stages import STAGES

OTHER_TRIAL = 7  # trials between a result and the image that the control compares it with


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a demo measured.

    messages : of its session
    truth : (run, trial) to the candidate that was shown
    ceiling : accuracy of an observer who knows the participant's responses, see ``simulator.ceiling``
    speed : times real time
    seconds : that the visit took
    """

    messages: list[Message]
    truth: dict[tuple[int, int], str]
    volumes_sent: int
    ceiling: Accuracy
    speed: float
    seconds: float
    archive: Path

    def top1(self, stage: str) -> Accuracy:
        hits = [
            message.candidates[0].id == self.truth[message.run, message.trial]
            for message in self.messages
            if isinstance(message, Result) and message.stage == stage
        ]
        return Accuracy.of(hits, 1.0 / N_POOL)

    def control(self) -> Accuracy:
        """Top-1 of the final results against the image of another trial: the accuracy without information."""
        finals = [m for m in self.messages if isinstance(m, Result) and m.stage == "final"]
        hits = [
            result.candidates[0].id == self.truth[other.run, other.trial]
            for result, other in zip(finals, finals[OTHER_TRIAL:] + finals[:OTHER_TRIAL], strict=True)
        ]
        return Accuracy.of(hits, 1.0 / N_POOL)

    def summary(self) -> dict[str, Any]:
        """For JSON. The keys are stable, for scripts."""
        final = self.top1("final")
        low, high = final.interval
        results = [message for message in self.messages if isinstance(message, Result)]
        return {
            "volumes_sent": self.volumes_sent,
            "volumes_processed": sum(isinstance(message, VolumeProcessed) for message in self.messages),
            "trials": len(self.truth),
            "answers": len(results),
            "reconstructions": sum(isinstance(m, Reconstruction) and m.version == "full" for m in self.messages),
            "previews": sum(isinstance(m, Reconstruction) and m.version == "preview" for m in self.messages),
            "reconstructions_skipped": sum(isinstance(m, ReconstructionSkipped) for m in self.messages),
            "top1": round(final.value, 4),
            "top1_n": final.n,
            "top1_interval": [round(low, 4), round(high, 4)],
            "top1_by_stage": {stage: round(self.top1(stage).value, 4) for stage in STAGES},
            "chance": final.chance,
            "control_top1": round(self.control().value, 4),
            "ceiling": round(self.ceiling.value, 4),
            "ceiling_n": self.ceiling.n,
            "latency_ms": latencies(self.messages),
            "speed": self.speed,
            "seconds": round(self.seconds, 1),
            "archive": str(self.archive),
        }


def latencies(messages: list[Message]) -> dict[str, dict[str, float]]:
    """Median and 99th percentile per step, in milliseconds. Final betas, which wait for a run's end, are left out;
    ``reconstruction`` is of full images only.
    """
    values: dict[str, list[float]] = {}
    for message in messages:
        if not isinstance(message, VolumeReceived | VolumeProcessed | BetaReady | Result | Reconstruction):
            continue
        if isinstance(message, BetaReady) and message.stage == "final":
            continue
        steps = message.latency_ms.model_dump(exclude_none=True)
        if isinstance(message, Reconstruction) and (message.version != "full" or message.stage == "final"):
            steps.pop("reconstruction", None)
        for step, value in steps.items():
            values.setdefault(step, []).append(value)
    return {
        step: {"p50": round(float(np.median(taken)), 2), "p99": round(float(np.percentile(taken, 99)), 2)}
        for step, taken in values.items()
    }


def text_of(outcome: Outcome) -> str:
    """The summary, for a person."""
    summary = outcome.summary()
    lines = [
        "",
        f"volumes    {summary['volumes_sent']} sent, {summary['volumes_processed']} processed",
        f"trials     {summary['trials']}, {summary['answers']} results, {summary['reconstructions']} reconstructions"
        f" ({summary['reconstructions_skipped']} skipped)",
        *(f"top-1      {stage:<8} {outcome.top1(stage)}" for stage in STAGES),
        f"ceiling    {outcome.ceiling}",
        f"control    {outcome.control()}: final results against another trial's image",
        "latency    " + "   ".join(f"{s} {v['p50']:.0f} / {v['p99']:.0f}" for s, v in summary["latency_ms"].items())
        + "   (ms, p50 / p99)",
        f"archive    {summary['archive']}",
    ]  # fmt: skip
    return "\n".join(lines)
