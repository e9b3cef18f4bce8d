"""A file of all settings, each with what it is for, as ``mindsight init`` writes it.

Knows nothing of how settings are read; what each is for stands in ``Settings``, once.
"""

from __future__ import annotations

import inspect
import re
import textwrap

from mindsight.settings import CONFIG, PREFIX, Settings

_ENTRY = re.compile(r"^    (\w+(?:, \w+)*) : (.+?)(?=^    \w+(?:, \w+)* : |\Z)", re.MULTILINE | re.DOTALL)
_HEAD = f"""\
Settings of Mindsight. Every line is a default: take the # away to change one.

Mindsight reads this file, {CONFIG}, in the folder where a command is run, or where MINDSIGHT_CONFIG names it; a
variable of the environment comes first. systemd (EnvironmentFile=) and docker compose (env_file:) read it as well.
A wrong or misspelt setting is refused at the start. mindsight doctor tells whether this machine can do what is set.
"""


def described() -> dict[tuple[str, ...], str]:
    """Names of settings that belong together -> what they are for."""
    text = textwrap.indent(inspect.getdoc(Settings) or "", "    ")
    return {tuple(names.split(", ")): " ".join(what.split()) for names, what in _ENTRY.findall(text)}


def configuration() -> str:
    """The file's content."""
    lines = [f"# {line}".rstrip() for line in _HEAD.splitlines()]
    for names, what in described().items():
        lines.append("")
        lines += textwrap.wrap(what.replace("``", ""), 110, initial_indent="# ", subsequent_indent="# ")
        for name in names:
            default = Settings.model_fields[name].default
            lines.append(f"#{PREFIX}{name.upper()}={'' if default is None else default}")
    return "\n".join(lines) + "\n"
