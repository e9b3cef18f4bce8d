"""Imported by the server that sessions' processes are forked from: everything is loaded and compiled when they begin.

Knows nothing of sessions.
"""

from mindsight.settings import read_settings
from workers.ingest import runner, session_process
from workers.ingest.warm_up import warm_up

__all__ = ["runner", "session_process"]

if read_settings().blobs_url:
    import mindsight.blobs.s3  # noqa: F401 -- half a second

warm_up()
