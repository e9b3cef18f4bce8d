from __future__ import annotations

import typer


def doctor() -> None:
    """Check whether this machine can run Mindsight, and print what to do if it cannot."""
    from mindsight.operations.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(str(finding))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
