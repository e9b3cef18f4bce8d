"""A training's configuration, read from a TOML file and refused in one line.

Knows nothing of what is configured: pydantic models do.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mindsight.errors import BadRequest

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path, model: type[Model]) -> Model:
    """Raises BadRequest (``training.config``), in one line, for the first thing that is wrong."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise refused(path, f"one that cannot be read ({reason})") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            there = f"; there are {', '.join(model.model_fields)}" if "." not in name else ""
            raise refused(path, f"the unknown key {name}{there}") from None
        if first["type"] == "missing":
            raise refused(path, f"none for {name}") from None
        raise refused(path, f"{name} = {first['input']!r} ({first['msg'].lower()})") from None


def refused(path: Path, got: str) -> BadRequest:
    """The error of a configuration with this in it."""
    return BadRequest(f"expected a configuration in {path.name}, got {got}: correct it", code="training.config")
