"""``python -m workers.ingest``: the ingest worker."""

import sys

from workers.ingest.server import begin_server


def main() -> int:
    """The server of sessions' processes gets ready while the worker itself is loaded."""
    begin_server()
    from workers.ingest.worker import main as work

    return work()


sys.exit(main())
