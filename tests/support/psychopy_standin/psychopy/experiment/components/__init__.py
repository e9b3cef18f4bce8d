from __future__ import annotations

from typing import Any


class Param:
    """A value of a component; one that begins with $ is code, as in Builder."""

    def __init__(self, val: str, valType: str, inputType: str, updates: str, label: str, hint: str) -> None:
        self.val = val

    def __str__(self) -> str:
        return self.val[1:] if self.val.startswith("$") else repr(self.val)


class BaseComponent:
    def __init__(self, exp: Any, parentName: str, name: str, **timing: str) -> None:
        self.exp, self.params = exp, {"name": name}


def getInitVals(params: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in params.items()}
