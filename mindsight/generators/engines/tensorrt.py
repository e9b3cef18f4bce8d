"""TensorRT: enterprise TensorRT if it is installed, else TensorRT for RTX. The only file that imports either.

TensorRT for RTX builds for several cards at once on a machine without any. What it leaves to the card, the last
compilation of each kernel, is done when the engine first runs, and kept beside it. Enterprise TensorRT builds for the
card that is there.

A plan is machine code. ``registry.load_verified`` hands only files to ``load`` that are what their manifest says, and
``refuse`` runs them once in a process of its own, since the runtime ends the process on some plans that it cannot run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mindsight.errors import BadRequest, ModelMismatch, NotInstalled
from mindsight.generators.engines.base import Loop, Network, Report, Runner, output_in_pieces
from mindsight.generators.engines.export import export
from mindsight.generators.engines.folder import EngineDescription
from mindsight.generators.engines.probe import probe
from mindsight.generators.engines.tensorrt_progress import progress_monitor

WORKSTATIONS = ("8.6", "8.9", "12.0")  # RTX 30, 40 and 50 and their professional sisters
_FEWEST, _USUAL, _MOST = 1, 1, 2  # a batch: one image, and its guided and unguided evaluation together
_EXPORTED = 0.45  # of the whole, at SDXL's published size
_DTYPES = {"FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16}
_FAULTS = {  # bits of EngineInvalidityDiagnostics, the cause before its consequences
    "MALFORMED_ENGINE": "a whole plan, got a damaged one: build it again",
    "VERSION_MISMATCH": "a plan of this version of TensorRT, got one of another: build it again",
    "UNSUPPORTED_CC": "a plan for this card, got one for others: build it for this card",
    "OLD_CUDA_DRIVER": "a newer CUDA driver, got an old one: update it",
    "OLD_CUDA_RUNTIME": "a newer CUDA runtime, got an old one: update it",
    "INSUFFICIENT_GPU_MEMORY": "more free memory on the card: close what else uses it, or take a smaller image size",
}


def runtime() -> str:
    trt = _module()
    return f"{trt.__name__} {trt.__version__}"


def capabilities(asked: Sequence[str]) -> tuple[str, ...]:
    trt = _module()
    if not _is_rtx(trt):
        _need_card()
        here = _card()
        if set(asked) - {here}:
            raise BadRequest(
                f"expected {here}, the card of this machine, for enterprise TensorRT, got {', '.join(asked)}: build on"
                " a machine with that card",
                code="engine.card",
            )
        return (here,)
    asked = tuple(asked) or WORKSTATIONS
    for one in asked:
        if _sm(one) not in trt.ComputeCapability.__members__:
            known = sorted(_dotted(name) for name in trt.ComputeCapability.__members__ if name.startswith("SM"))
            raise BadRequest(
                f"expected compute capabilities of {', '.join(known)} for {runtime()}, got {one}: take the compiled"
                " engine on that card, or enterprise TensorRT",
                code="engine.card",
            )
    return tuple(asked)


def device() -> str:
    _need_card()
    return torch.cuda.get_device_name()


def build(network: Network, folder: Path, capabilities: Sequence[str], report: Report) -> str:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        graph = Path(scratch, f"{network.name}.onnx")
        exporting = f"exporting the {network.name}"
        report(exporting, 0.0)
        digest = export(network, graph, lambda share: report(exporting, _EXPORTED * share))
        building = f"building the {network.name} for {', '.join(capabilities)}"
        report(building, _EXPORTED)
        plan = build_plan(
            graph, network, capabilities, lambda share: report(building, _EXPORTED + (1.0 - _EXPORTED) * share)
        )
        with _plan(folder, network.name).open("wb") as file:
            file.write(plan)
    return digest


def refuse(folder: Path, description: EngineDescription) -> None:
    _module()
    _need_card()
    if description.capabilities and (here := _card()) not in description.capabilities:
        raise ModelMismatch(
            f"expected an engine for this card, {torch.cuda.get_device_name()} ({here}), got one for"
            f" {', '.join(description.capabilities)}: build it with --card {here}",
            code="engine.card",
        )
    probe(folder)


def load(folder: Path, description: EngineDescription, cache: bytes | None) -> TensorRTEngine:
    trt = _module()
    logger = _logger(trt)
    runtime = trt.Runtime(logger)
    kept: Any = None
    networks = {}
    for name in description.graphs:
        engine = _deserialise(trt, runtime, logger, _plan(folder, name))
        if _is_rtx(trt):
            config = engine.create_runtime_config()
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            # while it compiles for a shape, nothing runs at half speed: a verified engine has all it needs
            config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            if kept is None:
                kept = config.create_runtime_cache()
                if cache is not None:
                    kept.deserialize(cache)  # refused for another driver: then all is compiled again
            config.set_runtime_cache(kept)
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context()
        if context is None:
            raise _unusable(logger)
        networks[name] = _Plan(trt, engine, context)
    return TensorRTEngine(networks, kept)


def cache(engine: TensorRTEngine) -> bytes | None:
    return None if engine.kept is None else bytes(engine.kept.serialize())


@dataclass(frozen=True, slots=True)
class TensorRTEngine:
    """kept : what the runtime compiled for the card"""

    networks: Mapping[str, Runner]
    kept: Any

    def loop(self, sample: Loop) -> Loop:
        return torch.inference_mode()(sample)


class _Plan:
    """One network. The runtime captures its CUDA graph, which reads and writes where it did the first time."""

    def __init__(self, trt: Any, engine: Any, context: Any) -> None:
        self._engine, self._context = engine, context  # a context needs its engine to live
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        is_input = [engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names]
        self._inputs = [name for name, it_is in zip(names, is_input, strict=True) if it_is]
        (self._output,) = [name for name, it_is in zip(names, is_input, strict=True) if not it_is]
        self._dtype = _DTYPES[engine.get_tensor_dtype(self._output).name]
        self._most = engine.get_tensor_profile_shape(self._inputs[0], 0)[2][0]
        # the default stream cannot be captured
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._buffers: dict[int, tuple[list[Tensor], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        return output_in_pieces(self._run, inputs, self._most)

    def _run(self, inputs: Sequence[Tensor]) -> Tensor:
        batch = len(inputs[0])
        if batch not in self._buffers:
            self._buffers[batch] = self._allocate(inputs)
        buffers, output = self._buffers[batch]
        caller = torch.cuda.current_stream()
        for name, buffer, one in zip(self._inputs, buffers, inputs, strict=True):
            buffer.copy_(one)
            self._context.set_input_shape(name, tuple(buffer.shape))
            self._context.set_tensor_address(name, buffer.data_ptr())
        self._context.set_tensor_address(self._output, output.data_ptr())
        self._stream.wait_stream(caller)
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise ModelMismatch("expected the engine to run, TensorRT stopped: verify it again", code="engine.unusable")
        caller.wait_stream(self._stream)
        return output.clone()

    def _allocate(self, inputs: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        for name, one in zip(self._inputs, inputs, strict=True):
            self._context.set_input_shape(name, tuple(one.shape))
        shape = tuple(self._context.get_tensor_shape(self._output))
        output = torch.empty(shape, dtype=self._dtype, device=inputs[0].device)
        return [torch.empty_like(one, memory_format=torch.contiguous_format) for one in inputs], output


def build_plan(graph: Path, network: Network, capabilities: Sequence[str], report: Any) -> Any:
    trt = _module()
    logger = _logger(trt)
    try:
        builder = trt.Builder(logger)
    except TypeError:  # enterprise TensorRT has no builder without a card
        raise _unusable(logger) from None
    definition = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(definition, logger)
    if not parser.parse_from_file(str(graph)):
        why = parser.get_error(0).desc() if parser.num_errors else logger.last
        raise _not_built(network, why)
    _let_attention_be_decomposed(trt, definition)
    config = builder.create_builder_config()
    if _is_rtx(trt):
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            config.set_compute_capability(trt.ComputeCapability.__members__[_sm(capability)], index)
    profile = builder.create_optimization_profile()
    for one in network.inputs:
        profile.set_shape(one.name, *((batch, *one.shape) for batch in (_FEWEST, _USUAL, _MOST)))
    config.add_optimization_profile(profile)
    config.progress_monitor = monitor = progress_monitor(trt, report)
    plan = builder.build_serialized_network(definition, config)
    del monitor  # it must outlive the build
    if plan is None:
        raise _not_built(network, logger.first)
    return plan


def _let_attention_be_decomposed(trt: Any, definition: Any) -> None:
    """Where no kernel fits (heads of 512 numbers in SDXL's decoder, single precision) it becomes several."""
    for number in range(definition.num_layers):
        layer = definition.get_layer(number)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # the binding's own way of asking for the layer's own kind
            layer.attention.decomposable = True


def open_alone(folder: Path, names: Sequence[str]) -> str | None:
    """For the probe's process: why the plans cannot be run here, in one line; None if they can."""
    trt = _module()
    logger = _logger(trt)
    runtime = trt.Runtime(logger)
    try:
        for name in names:
            engine = _deserialise(trt, runtime, logger, _plan(folder, name))
            if engine.create_execution_context() is None:
                raise _unusable(logger)
    except ModelMismatch as error:
        return str(error)
    return None


def _deserialise(trt: Any, runtime: Any, logger: Any, path: Path) -> Any:
    content = path.read_bytes()
    if hasattr(runtime, "get_engine_validity"):
        _, bits = runtime.get_engine_validity(content)
        for fault, expected in _FAULTS.items():
            if int(bits) & int(trt.EngineInvalidityDiagnostics.__members__[fault]):
                raise ModelMismatch(f"{path.name}: expected {expected}", code="engine.unusable")
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise _unusable(logger)
    return engine


def _unusable(logger: Any) -> ModelMismatch:
    if "cudaError 35" in logger.first or "error: 35" in logger.first:
        return ModelMismatch(
            "expected a CUDA card with a driver for TensorRT, got none or too old a driver: install or update it, or"
            " use eager or onnx",
            code="engine.driver",
        )
    return ModelMismatch(
        f"expected TensorRT to take the engine, got {_one_line(logger.first)!r}: build it again", code="engine.unusable"
    )


def _not_built(network: Network, why: str) -> BadRequest:
    return BadRequest(
        f"expected TensorRT to build the {network.name}, got {_one_line(why)!r}: run it eager, compiled or with onnx",
        code="engine.build",
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _need_card() -> None:
    if not torch.cuda.is_available():
        raise ModelMismatch(
            "expected a CUDA card with its driver for a TensorRT engine, got none: use eager or onnx on this machine",
            code="engine.driver",
        )


def _card() -> str:
    return ".".join(map(str, torch.cuda.get_device_capability()))


def _sm(capability: str) -> str:
    return f"SM{capability.replace('.', '')}"


def _dotted(sm: str) -> str:
    return f"{sm[2:-1]}.{sm[-1]}"


def _plan(folder: Path, name: str) -> Path:
    return folder / f"{name}.plan"


def _is_rtx(trt: Any) -> bool:
    return bool(trt.__name__ == "tensorrt_rtx")


def _logger(trt: Any) -> Any:
    """Keeps the first and the last error, and prints nothing: a refusal is one line."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.ERROR:
                self.first, self.last = self.first or message, message

    return Logger()


def _module() -> Any:
    try:
        import tensorrt
    except ImportError:
        try:
            import tensorrt_rtx as tensorrt
        except ImportError:
            raise NotInstalled(
                'a TensorRT engine needs TensorRT, not installed here: pip install "mindsight[tensorrt]"',
                code="engine.not_installed",
            ) from None
    return tensorrt
