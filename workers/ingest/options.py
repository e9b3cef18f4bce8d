"""What a session asked for, as options of ingest.

Knows nothing of sessions: options in, options out.
"""

from __future__ import annotations

from dataclasses import fields

from mindsight.ingest import IngestOptions
from mindsight.protocol.inputs import SessionOptions

_SAME_NAME = {field.name for field in fields(IngestOptions)} & set(SessionOptions.model_fields) - {"limits"}


def ingest_options(asked: SessionOptions, calibrated: IngestOptions | None) -> IngestOptions:
    """What the session asks for, on top of the options its bundle was calibrated with, or of the defaults."""
    given = {name: getattr(asked, name) for name in _SAME_NAME}
    named = asked.limits.on({})
    return (calibrated or IngestOptions()).override({**given, "fd_threshold_mm": asked.fd_mm, "limits": named})
