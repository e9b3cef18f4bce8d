"""The one tree of errors. Each has a machine code, and a message: what was expected, what came, what to do."""

from __future__ import annotations


class MindsightError(Exception):
    """Base of everything Mindsight raises on purpose.

    ``code`` is stable and machine-readable (``"volume.shape_mismatch"``); the message is for a person. ``details`` are
    numbers or short strings a program can act on (``{"expected_index": 5}``). Neither ever holds an identity or a path
    of the server.

    ``is_transient``: the fault lies with the machinery, not with what was asked; the same may succeed later.
    """

    code = "mindsight.error"
    is_transient = False

    def __init__(self, message: str, *, code: str | None = None, **details: int | float | str | None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.details = details


class BadVolume(MindsightError):
    """A file or a payload that is not the volume it should be: truncated, of another shape, unreadable."""

    code = "volume.unreadable"


class BadRequest(MindsightError):
    """A request that cannot be carried out as it stands: an event outside its run, a wrong argument."""

    code = "request.invalid"


class NotFound(MindsightError):
    """A subject, session, run, result or image that does not exist here."""

    code = "not_found"


class NotAllowed(MindsightError):
    """No key, a wrong key (401), or a key without the scope (403)."""

    code = "auth.denied"


class OutOfOrder(MindsightError):
    """A volume that is not the next of its run; ``details['expected_index']`` says which is."""

    code = "volume.out_of_order"


class Conflict(MindsightError):
    """The state does not allow it: a closed session, a run that has ended, an id that is taken."""

    code = "state.conflict"


class Diverged(MindsightError):
    """The same key was written before with other content. Never overwritten: a person has to resolve it."""

    code = "log.diverged"


class LeaseLost(MindsightError):
    """Another worker holds this session now; what this one still writes is refused (fenced)."""

    code = "lease.lost"


class BusUnavailable(MindsightError):
    """The bus (Redis) did not answer within its deadline."""

    code = "bus.unavailable"
    is_transient = True


class StorageFull(MindsightError):
    """A payload could not be made durable: the disk is full, the quota is used up, or it cannot be written."""

    code = "storage.full"
    is_transient = True


class StorageUnavailable(StorageFull):
    """The store of payloads is on the network, and did not answer in time, or let nobody in."""

    code = "storage.unavailable"


class ServiceUnavailable(MindsightError):
    """The gateway could not be reached, or answered something else than its protocol, within the deadline."""

    code = "service.unavailable"
    is_transient = True


class ModelMismatch(MindsightError):
    """Weights, bundle or pool do not fit each other or this code."""

    code = "model.mismatch"


class NotInstalled(MindsightError):
    """A command needs packages that this install does not have."""

    code = "install.missing"


class DeadlineExceeded(MindsightError):
    """Something waited as long as it was allowed to."""

    code = "deadline.exceeded"
    is_transient = True
