from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mindsight.cli.style import AsJson, show
from mindsight.extras import need_server


def export(
    out: Annotated[Path, typer.Argument(help="new folder for the dataset")],
    subject: Annotated[
        list[str] | None, typer.Option(help="only this subject; repeat for several; default: all that have agreed")
    ] = None,
    name: Annotated[str, typer.Option(help="name of the study")] = "Real-time fMRI study",
    as_json: AsJson = False,
) -> None:
    """Write this data folder's archived sessions as one BIDS dataset: raw data, and what was computed live.

    Sessions of subjects who have not agreed to an export are left out and named.
    """
    need_server("mindsight export")
    from mindsight.archive.study import write_study
    from mindsight.errors import Conflict, NotFound
    from mindsight.progress import Progress
    from mindsight.settings import read_settings
    from mindsight.subjects.registry import Registry

    settings = read_settings()
    registry, archives, refused = Registry(settings.subjects_dir), [], {}
    for folder in sorted(settings.archive_dir.glob("sub-*_*")):
        of = folder.name.partition("_")[0]
        if subject and of not in subject:
            continue
        try:
            registry.get(of).check_use("export", time.time())
            archives.append(folder)
        except (Conflict, NotFound) as error:
            refused[folder.name] = f"{error} [{error.code}]"
    for session, why in refused.items():
        typer.echo(f"left out {session}: {why}", err=True)
    if not archives:
        raise NotFound(
            f"expected archived sessions of subjects who agreed to an export in {settings.archive_dir}, got none",
            code="study.empty",
        )
    with Progress(quiet=as_json) as progress:
        done = write_study(archives, out, name=name, report=progress)
    text = f"{out}: {done.n_sessions} sessions of {done.n_subjects} subjects, {done.n_files} files"
    facts = {"folder": str(out), "subjects": done.n_subjects, "sessions": done.n_sessions, "files": done.n_files}
    show(text, facts | {"left_out": refused}, as_json)
