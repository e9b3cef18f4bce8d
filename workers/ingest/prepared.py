"""Imported by the server that sessions' processes are forked from: everything is loaded and compiled when they begin.

Knows nothing of sessions.
"""

from workers.ingest import runner, session_process
from workers.ingest.warm_up import warm_up

__all__ = ["runner", "session_process"]

warm_up()
