"""Rules of the house that an import alone cannot show, read off the sources (see docs/adr/0005-the-house.md)."""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("mindsight", "service", "workers", "training")

# module -> why it may do what the rule keeps to one room
ENVIRONMENT = {
    "mindsight.settings": "reads every setting",
    "mindsight.operations.supervisor": "hands its environment on to the processes that it starts",
}
MOVES = frozenset({"os.replace", "os.rename", "os.renames", "os.fsync", "os.fdatasync", "os.sync", "shutil.move"})
CLOCKS = frozenset(
    {f"time.{name}{unit}" for name in ("time", "monotonic") for unit in ("", "_ns")}
    | {f"datetime.datetime.{name}" for name in ("now", "today", "utcnow")}
    | {"datetime.date.today"}
)


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Module -> its syntax tree, of everything that is installed."""
    paths = (path for top in TOP for path in sorted((ROOT / top).rglob("*.py")))
    return {name_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_in(module: str, rooms: Iterable[str]) -> bool:
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


@functools.cache
def names_used(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and full name of whatever is reached through an import, whatever it is called in the file."""
    full: dict[str, str] = {}
    used: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                full[one.asname or one.name.partition(".")[0]] = one.name if one.asname else one.name.partition(".")[0]
                used.append((node.lineno, one.name))
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for one in node.names:
                full[one.asname or one.name] = f"{node.module}.{one.name}"
                used.append((node.lineno, f"{node.module}.{one.name}"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)) is not None:
            first, _, rest = dotted.partition(".")
            used.append((node.lineno, f"{full.get(first, first)}.{rest}"))
    return used


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


def moves_files(module: str, tree: ast.AST) -> Iterator[int]:
    """Lines that rename or sync, by ``os`` or by a ``Path``, whose ``replace`` takes one argument (a string's: two)."""
    if is_in(module, ["mindsight.files"]):
        return
    yield from (line for line, name in names_used(tree) if name in MOVES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = {keyword.arg for keyword in node.keywords}
            if node.func.attr in ("replace", "rename") and (
                (len(node.args) == 1 and not named) or (not node.args and named == {"target"})
            ):
                yield node.lineno


def reads_the_environment(module: str, tree: ast.AST) -> Iterator[int]:
    if module not in ENVIRONMENT:
        found = ("os.environ", "os.environb", "os.getenv", "os.putenv", "os.getenvb")
        yield from (line for line, name in names_used(tree) if is_in(name, found))


def reads_weights(module: str, tree: ast.AST) -> Iterator[int]:
    if not is_in(module, ["mindsight.weights"]):
        found = ("safetensors", "torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler")
        yield from (line for line, name in names_used(tree) if is_in(name, found))


def looks_at_a_clock(module: str, tree: ast.AST) -> Iterator[int]:
    if is_in(module, pure_rooms()):
        yield from (line for line, name in names_used(tree) if name in CLOCKS)


@functools.cache
def pure_rooms() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [pure] = [one for one in contracts if one["name"].startswith("the pure domain")]
    return list(pure["source_modules"])


RULES = [moves_files, reads_the_environment, reads_weights, looks_at_a_clock]
Rule = Callable[[str, ast.AST], Iterator[int]]


@pytest.mark.parametrize("rule", RULES)
def test_the_sources_keep_the_rule(rule: Rule) -> None:
    assert [f"{module}:{line}" for module, tree in sources().items() for line in rule(module, tree)] == []


BROKEN = [
    (moves_files, "import os\nos.replace('a', 'b')"),
    (moves_files, "from os import fsync as sync\nsync(3)"),
    (moves_files, "import os as system\nsystem.rename('a', 'b')"),
    (moves_files, "import shutil\nshutil.move('a', 'b')"),
    (moves_files, "path.replace(other)"),
    (moves_files, "(folder / name).rename(target=other)"),
    (reads_the_environment, "import os\nos.environ['HOME']"),
    (reads_the_environment, "import os\nos.environ.get('HOME')"),
    (reads_the_environment, "from os import environ"),
    (reads_the_environment, "def f():\n    import os\n    return os.getenv('HOME')"),
    (reads_weights, "import torch\ntorch.load('a')"),
    (reads_weights, "from torch import load"),
    (reads_weights, "def f():\n    from safetensors.torch import load_file"),
    (reads_weights, "import safetensors"),
    (reads_weights, "import pickle\npickle.load(file)"),
    (looks_at_a_clock, "import time\ntime.time()"),
    (looks_at_a_clock, "from time import monotonic\nmonotonic()"),
    (looks_at_a_clock, "import time\nf(clock=time.monotonic)"),
    (looks_at_a_clock, "from datetime import datetime\ndatetime.now()"),
    (looks_at_a_clock, "import datetime as dt\ndt.datetime.now(dt.UTC)"),
    (looks_at_a_clock, "import datetime\ndatetime.date.today()"),
]


@pytest.mark.parametrize(("rule", "source"), BROKEN)
def test_a_source_that_breaks_the_rule_is_found(rule: Rule, source: str) -> None:
    assert list(rule("mindsight.glm.made_up", ast.parse(source)))


KEPT = [
    (moves_files, "mindsight.glm.made_up", "text.replace('a', 'b')\nreplace(record, run=1)\ntime.replace(hour=1)"),
    (moves_files, "mindsight.files.made_up", "import os\nos.fsync(3)"),
    (reads_the_environment, "mindsight.settings", "import os\nos.environ"),
    (reads_weights, "mindsight.weights.made_up", "import torch\ntorch.load('a')"),
    (reads_weights, "mindsight.glm.made_up", "import torch\ntorch.jit\nmodel.load(folder)\njson.load(file)"),
    (looks_at_a_clock, "mindsight.operations.made_up", "import time\ntime.time()"),
    (looks_at_a_clock, "mindsight.glm.made_up", "import time\nclock = time.perf_counter\ntimes.time"),
]


@pytest.mark.parametrize(("rule", "module", "source"), KEPT)
def test_a_source_that_keeps_the_rule_is_not_found(rule: Rule, module: str, source: str) -> None:
    assert list(rule(module, ast.parse(source))) == []


def imports_of(module: str, tree: ast.Module, modules: Mapping[str, object], packages: set[str]) -> set[str]:
    """Files that must be run before this one can be: not those imported in functions or for type checkers alone."""
    found: set[str] = set()
    for node in _run_at_import(tree.body):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module if module in packages else module.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            origin = ".".join(filter(None, (package if node.level else "", node.module or "")))
            inner = {f"{origin}.{one.name}" for one in node.names}
            found |= {name if name in modules else origin for name in inner}
    return {name for name in found if name in modules and name != module}


def _run_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and (_dotted(node.test) or "").endswith("TYPE_CHECKING"):
            yield from _run_at_import(node.orelse)
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            yield from _run_at_import(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from _run_at_import(handler.body)


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Files that reach themselves, together with those on the way (strongly connected components, Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = lowest[module] = len(index)
        open_.append(module)
        for other in sorted(imports[module]):
            if other not in index:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in open_:
                lowest[module] = min(lowest[module], index[other])
        if lowest[module] == index[module]:
            at = open_.index(module)
            if len(open_) - at > 1:
                found.append(sorted(open_[at:]))
            del open_[at:]

    for module in imports:
        if module not in index:
            visit(module)
    return found


def circles_in(trees: Mapping[str, ast.Module], packages: set[str]) -> list[list[str]]:
    return circles({module: imports_of(module, tree, trees, packages) for module, tree in trees.items()})


def test_no_circle_of_files() -> None:
    packages = {name_of(path) for top in TOP for path in (ROOT / top).rglob("__init__.py")}
    assert circles_in(sources(), packages) == []


@pytest.mark.parametrize(
    ("a", "b", "circle"),
    [
        ("import room.b", "from room.a import x", True),
        ("from room import b", "from . import a", True),
        ("from .b import x", "class C:\n    from room.a import y", True),
        ("try:\n    import room.b\nexcept ImportError:\n    pass", "if True:\n    import room.a", True),
        ("import room.b", "import json\nimport other.a", False),
        ("import room.b", "def f():\n    from room.a import x", False),
        ("import room.b", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from room.a import x", False),
    ],
)
def test_a_circle_is_found_and_a_line_is_not(a: str, b: str, circle: bool) -> None:
    trees = {"room": ast.parse(""), "room.a": ast.parse(a), "room.b": ast.parse(b)}
    assert circles_in(trees, {"room"}) == ([["room.a", "room.b"]] if circle else [])


def test_a_room_that_hands_on_what_needs_the_room_is_a_circle() -> None:
    trees = {"room": ast.parse("from room.a import x"), "room.a": ast.parse("from room import y")}
    assert circles_in(trees, {"room"}) == [["room", "room.a"]]
