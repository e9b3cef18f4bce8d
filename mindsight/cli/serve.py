from __future__ import annotations

import typer

from mindsight.extras import need_server


def serve() -> None:
    """Start bus, gateway and workers (ingest, inference, jobs) on this machine, and keep them running until Ctrl-C."""
    need_server("mindsight serve")
    from mindsight.operations.supervisor import Supervisor, wait_for_stop
    from mindsight.operations.welcome import Heard, welcome
    from mindsight.printing import outlive_full_logs
    from mindsight.progress import Progress
    from mindsight.settings import read_settings

    heard = Heard()
    with Progress() as progress:
        supervisor = Supervisor(read_settings(), announce=heard, report=progress)
        url = supervisor.start()
    typer.echo(f"Mindsight is up at {url} (data: {supervisor.settings.data_dir}; logs: {supervisor.logs_dir})")
    for line in welcome(url, heard.keys()):
        typer.echo(line)
    outlive_full_logs()
    wait_for_stop(supervisor)
