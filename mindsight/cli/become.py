"""A command that is another program of ours, which takes this process's place: signals and exit code are its own."""

from __future__ import annotations

import os


def become(name: str, module: str, *arguments: str) -> None:
    """Run one of our modules in place of this process.

    name : of the command, for the message if this install lacks what it needs

    Raises NotInstalled.
    """
    from mindsight.extras import need_server
    from mindsight.processes import module_command

    need_server(f"mindsight {name}")
    command = module_command(module, *arguments)
    os.execv(command[0], command)  # noqa: S606
