"""Recorded sessions as they would be under other conditions, for the dashboard's tests: changes of single messages."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindsight.protocol.messages import (
    BetaReady,
    Captioned,
    EventAdded,
    Message,
    Reconstruction,
    ReconstructionFit,
    ReconstructionSkipped,
    Result,
    RunPlaced,
    SessionOpened,
    VolumeProcessed,
    Warned,
)
from support.dashboard_record import STARTED_T, Record

FASTER = 8.0
DECODED = (Result, Reconstruction, ReconstructionFit, ReconstructionSkipped, Captioned)


def without_bundle(message: Message) -> Message | None:
    """Betas, and nothing decoded from them."""
    if isinstance(message, SessionOpened):
        return message.model_copy(update={"bundle": None, "pool_size": None})
    if isinstance(message, RunPlaced):
        return message.model_copy(update={"reference": "first_volume"})
    return None if isinstance(message, DECODED) else message


def without_motion(message: Message) -> Message | None:
    """Motion is not measured; what was censored was a spike."""
    if isinstance(message, VolumeProcessed):
        unknown = dict.fromkeys(("translation_mm", "rotation_deg", "fd_mm"))
        return message.model_copy(update={**unknown, "censored_by": "spike" if message.censored else None})
    if isinstance(message, BetaReady) and message.flagged:
        return message.model_copy(update={"flagged_by": ("spike",)})
    return message


def without_declared_truth(message: Message) -> Message | None:
    """The events do not say what was shown."""
    if isinstance(message, EventAdded):
        return message.model_copy(update={"stimulus": None, "candidate": None, "label": None})
    return message


def hurried(message: Message) -> Message | None:
    """Sent eight times faster than it was scanned, so that the volumes wait for each other."""
    return slow(message).model_copy(update={"t": STARTED_T + (message.t - STARTED_T) / FASTER})


def slow(message: Message) -> Message:
    """Scanned in real time by a service that is too slow."""
    if isinstance(message, VolumeProcessed):
        waited = message.latency_ms.model_copy(update={"queue": 9_000.0})
        return message.model_copy(update={"latency_ms": waited})
    return message


def without_drawing(message: Message) -> Message | None:
    """No reconstruction can be made."""
    if isinstance(message, Reconstruction):
        text = f"trial {message.trial} of run {message.run} has no reconstruction: the card is away"
        where: dict[str, Any] = {name: getattr(message, name) for name in ("session", "t", "run", "trial", "stage")}
        return Warned(**where, code="device.lost", text=text)
    return None if isinstance(message, ReconstructionFit | Captioned) else message


def placed(record: Record, reference: str, **of: Any) -> Record:
    """With the first run's registration after its first volume."""
    registered = Record(record.session, images=record.images, usable_min=record.usable_min)
    values: dict[str, Any] = {
        "how": "subject",
        "displacement_mm": 0.0,
        "coverage": 1.0,
        "text": "0.0 mm away",
        "reference": reference,
        "reference_to_run": tuple(np.eye(4).ravel().tolist()),
    }
    for message in record.messages:
        registered.add(message)
        if isinstance(message, VolumeProcessed) and (message.run, message.index) == (1, 0):
            registered.add(RunPlaced(session=record.session, t=message.t, run=1, index=0, **{**values, **of}))
    return registered
