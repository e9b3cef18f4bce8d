"""Trials of a session while it runs, from its log: each final beta with what its trial showed.

Knows nothing of who writes the log. What was read is not read again. Letters: K trials, V voxels.
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mindsight.blobs import Blobs
from mindsight.errors import BadRequest
from mindsight.journal.read import Journal, entries
from mindsight.protocol import BetaReady, read_message
from mindsight.protocol.inputs import AddEvent, parse_input
from training.datasets.trials import ArrayBetas, SubjectTrials


class LiveTrials:
    """One session's trials so far.

    space : digest of the mask that the session's bundle or reference has; "" if it is unknown
    """

    def __init__(self, journal: Journal, blobs: Blobs, space: str = "") -> None:
        self._journal, self._blobs, self._space = journal, blobs, space
        self._subject = journal.opened().subject.removeprefix("sub-")
        self._read_inputs = self._read_messages = 0
        self._shown: dict[tuple[int, int], str] = {}
        self._waiting: dict[tuple[int, int], BetaReady] = {}
        self._keys: list[tuple[int, int]] = []
        self._betas: list[NDArray[np.float32]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def update(self) -> int:
        """Read what the log has more; how many trials were added.

        A beta whose event names no image waits until one does: events may be sent again with it.

        Raises BadRequest (``dataset.mask``) for a beta of other voxels than those before, NotFound (``blob.unknown``)
        if a payload was removed.
        """
        for entry in entries(self._journal.messages, self._read_messages):
            self._read_messages = entry.seq
            message = read_message(entry.payload, entry.seq, self._journal.session)
            if isinstance(message, BetaReady) and message.stage == "final":
                self._waiting[message.run, message.trial] = message
        for entry in entries(self._journal.inputs, self._read_inputs):
            self._read_inputs = entry.seq
            with suppress(ValidationError):
                event = parse_input(entry.payload)
                if isinstance(event, AddEvent) and event.trial is not None and (image := image_of(event)):
                    self._shown[event.run, event.trial] = image
        ready = [key for key in self._waiting if key in self._shown]
        for key in ready:
            self._add(key, self._waiting.pop(key))
        return len(ready)

    def _add(self, key: tuple[int, int], message: BetaReady) -> None:
        beta_V = np.frombuffer(self._blobs.get(message.beta), dtype="<f4").astype(np.float32)
        if self._betas and len(beta_V) != len(self._betas[0]):
            raise BadRequest(
                f"expected betas of {len(self._betas[0])} voxels, as before in session {self._journal.session}, trial"
                f" {key[1]} of run {key[0]} has {len(beta_V)}: the session changed its mask, leave the runs before out",
                code="dataset.mask",
            )
        self._keys.append(key)
        self._betas.append(beta_V)

    def trials(self) -> SubjectTrials:
        """All trials so far, in the order in which their betas were final. Raises BadRequest (``dataset.none``)."""
        if not self._keys:
            raise BadRequest(
                f"expected trials in the log of session {self._journal.session}, got none so far: wait for the first"
                " run to end",
                code="dataset.none",
            )
        return SubjectTrials(
            self._subject,
            ArrayBetas(np.stack(self._betas)),
            tuple(self._shown[key] for key in self._keys),
            (self._journal.session,) * len(self),
            tuple(run for run, _ in self._keys),
            self._space,
        )


def image_of(event: AddEvent) -> str | None:
    """Name of the image of an event: the candidate's id, else its file without its suffix, else its digest."""
    if event.candidate is not None:
        return event.candidate
    if event.stim_file is not None:
        return event.stim_file.rpartition(".")[0] or event.stim_file
    return event.stimulus
