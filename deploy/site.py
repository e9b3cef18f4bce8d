"""What the documentation's pages take from the code when the site is built: commands, settings, messages.

mkdocs calls ``on_page_markdown`` for each page; ``<!-- commands -->`` and the like become what is true now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PARAMETER = re.compile(r"\n(?=\w+(?:, \w+)* : )")
"""A line of a docstring that begins with a parameter's name."""
REPOSITORY = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([A-Za-z][\w./-]*)\)")  # of a page, to a file beside docs/


def commands() -> str:
    """Every command with its arguments, options, examples and exit codes."""
    import typer

    from mindsight.cli.main import app

    return "\n".join(line for name, command in _leaves(typer.main.get_command(app)) for line in _command(name, command))


def _leaves(group: Any, before: str = "mindsight") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def _command(name: str, command: Any) -> Iterator[str]:
    yield from (f"\n## {name}\n", _text(command.help), "")
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or "--help" in parameter.opts:
            continue
        is_option = parameter.param_type_name == "option"
        shown = ", ".join(f"`{one}`" for one in parameter.opts) if is_option else f"`{parameter.name.upper()}`"
        rows.append(f"| {shown} | {_text(getattr(parameter, 'help', '')).replace('|', '&#124;')} |")
    if rows:
        yield from ("| | |", "|---|---|", *rows, "")
    examples = [line for line in (command.epilog or "").splitlines() if "mindsight" in line]
    if examples:
        yield from ("```text", *examples, "```", "")
    yield from (line for line in (command.epilog or "").splitlines() if line.startswith("Exit codes:"))


def _text(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def settings() -> str:
    """Every setting, its default, what it is for."""
    from mindsight.operations.configuration import described
    from mindsight.settings import PREFIX, Settings

    rows = ["| setting | default | what it is for |", "|---|---|---|"]
    for names, what in described().items():
        for name in names:
            default = Settings.model_fields[name].default
            rows.append(f"| `{PREFIX}{name.upper()}` | {'' if default is None else f'`{default}`'} | {what} |")
    return "\n".join(rows)


def messages() -> str:
    """Every kind of message of a session's stream, with its fields."""
    from typing import get_args

    from mindsight.protocol.messages import Message

    lines: list[str] = []
    for kind in get_args(get_args(Message)[0]):
        lines += [
            f"\n## {kind.model_fields['type'].default}\n",
            _text(kind.__doc__),
            "",
            "| field | meaning |",
            "|---|---|",
        ]
        for name, field in kind.model_fields.items():
            if name not in ("v", "type"):
                lines.append(f"| `{name}` | {(field.description or '').replace('|', '&#124;')} |")
    return "\n".join(lines)


GENERATED: dict[str, Callable[[], str]] = {"commands": commands, "settings": settings, "messages": messages}


def on_config(config: Any) -> Any:
    """Every decision has its place, in its order."""
    house = next(section["The house"] for section in config.nav if "The house" in section)
    house += sorted(f"adr/{path.name}" for path in (Path(config.docs_dir) / "adr").glob("*.md"))
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in what is generated. A link to a file of the repository becomes its name: the site has only ``docs``."""
    for name, make in GENERATED.items():
        if f"<!-- {name} -->" in markdown:
            markdown = markdown.replace(f"<!-- {name} -->", make())
    depth = page.file.src_uri.count("/") + 1

    def outside(found: re.Match[str]) -> str:
        ups = found[0].count("../")
        return found[0] if ups < depth else f"{found[1]} (`{found[2]}`)"

    return REPOSITORY.sub(outside, markdown)


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Each parameter of a docstring on a line of its own, as it is written."""
    return PARAMETER.sub("<br>", html) if page.file.src_uri.startswith("reference/") else html
