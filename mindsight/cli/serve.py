from __future__ import annotations

import typer

from mindsight.extras import need_server


def serve() -> None:
    """Start bus, gateway and workers (ingest, inference, jobs) on this machine, and keep them running until Ctrl-C."""
    need_server("mindsight serve")
    from mindsight.operations.supervisor import Supervisor, wait_for_stop
    from mindsight.settings import read_settings

    supervisor = Supervisor(read_settings())
    url = supervisor.start()
    typer.echo(f"Mindsight is up at {url} (data: {supervisor.settings.data_dir}; logs: {supervisor.logs_dir})")
    wait_for_stop(supervisor)
