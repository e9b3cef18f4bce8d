"""A command that is another program of ours, which takes this process's place: signals and exit code are its own."""

from __future__ import annotations

import os


def become(name: str, module: str, *arguments: str) -> None:
    """Run one of our modules in place of this process.

    name : of the command, for the message where this install lacks what it needs

    Raises NotInstalled, and BadRequest where a setting of this environment is wrong.
    """
    from mindsight.extras import need_server
    from mindsight.processes import module_command
    from mindsight.settings import read_settings

    need_server(f"mindsight {name}")
    read_settings()
    command = module_command(module, *arguments)
    os.execv(command[0], command)  # noqa: S606
