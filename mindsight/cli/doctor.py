from __future__ import annotations

from dataclasses import asdict

import typer

from mindsight.cli.style import AsJson

_COLOURS = {"ok": "green", "note": "yellow", "fail": "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check whether this machine can run Mindsight, and print what to do if it cannot."""
    from mindsight.cli.style import show
    from mindsight.operations.doctor import examine
    from mindsight.progress import Progress

    with Progress(quiet=as_json) as progress:
        findings = examine(progress)
    lines = []
    for finding in findings:
        head, rest = str(finding)[:4], str(finding)[4:]
        lines.append(typer.style(head, fg=_COLOURS[finding.level]) + rest)
    show("\n".join(lines), [asdict(finding) for finding in findings], as_json)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
