"""``python -m mindsight.bus``: the embedded server of this data folder, in the foreground, until SIGTERM or Ctrl-C.

Knows nothing of what is stored.
"""

from __future__ import annotations

import signal
import sys
import threading

from mindsight.bus.embedded import EmbeddedServer
from mindsight.errors import MindsightError
from mindsight.printing import outlive_full_logs
from mindsight.settings import read_settings


def main() -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with EmbeddedServer(read_settings()) as server:
            print(f"mindsight bus ready at {server.url}", flush=True)
            process = server.process
            assert process is not None
            while not stop.wait(0.2):
                if process.poll() is not None:
                    print(
                        f"mindsight bus: the server ended unexpectedly ({process.returncode})",
                        file=sys.stderr,
                    )
                    return 1
    except MindsightError as error:
        print(f"mindsight bus: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    outlive_full_logs()
    sys.exit(main())
