"""ONNX on onnxruntime, on the CPU: any machine runs it, and so it proves the graph that TensorRT is given.

The only file that imports ``onnxruntime``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsight.errors import NotInstalled
from mindsight.generators.engines.base import Network, PlainEngine, Report
from mindsight.generators.engines.export import OUTPUT, export
from mindsight.generators.engines.folder import EngineDescription

_ERRORS_ONLY = 3  # it warns of each constant that the mended graph no longer uses


def runtime() -> str:
    return f"onnxruntime {_onnxruntime().__version__}"


def capabilities(asked: Sequence[str]) -> tuple[str, ...]:
    return ()


def device() -> str:
    return "cpu"


def build(network: Network, folder: Path, capabilities: Sequence[str], report: Report) -> str:
    what = f"exporting the {network.name}"
    report(what, 0.0)
    return export(network, _file(folder, network.name), lambda share: report(what, share))


def refuse(folder: Path, description: EngineDescription) -> None:
    _onnxruntime()


def load(folder: Path, description: EngineDescription, cache: bytes | None) -> PlainEngine:
    return PlainEngine({name: _Session(_file(folder, name)) for name in description.graphs})


def cache(engine: Any) -> bytes | None:
    return None


class _Session:
    """One network."""

    def __init__(self, path: Path) -> None:
        onnxruntime = _onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> Tensor:
        given = {name: one.detach().cpu().numpy() for name, one in zip(self._names, inputs, strict=True)}
        (output,) = self._session.run([OUTPUT], given)
        return torch.from_numpy(output).to(inputs[0].device)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.onnx"


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise NotInstalled(
            'an ONNX engine needs onnxruntime, not installed here: pip install "mindsight[onnx]"',
            code="engine.not_installed",
        ) from None
    return onnxruntime
