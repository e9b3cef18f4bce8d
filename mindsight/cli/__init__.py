"""``mindsight``: one file per command. Modules are imported where a command needs them, so that ``--help`` is quick."""

from mindsight.cli.main import app, main

__all__ = ["app", "main"]
