"""Imported by the server that sessions' processes are forked from: everything is loaded and compiled when they begin.

Knows nothing of sessions.
"""

import gc

from mindsight.errors import MindsightError
from mindsight.settings import read_settings


def _prepare() -> None:
    """What is imported lives on: to look through it for garbage on the way would take a sixth of the time."""
    gc.disable()
    from workers.ingest import runner, session_process  # noqa: F401
    from workers.ingest.warm_up import warm_up

    try:
        if read_settings().blobs_url:
            import mindsight.blobs.s3  # noqa: F401 -- half a second
    except MindsightError:  # a wrong setting: the worker says which, and ends
        return
    warm_up()
    gc.freeze()
    gc.enable()


_prepare()
