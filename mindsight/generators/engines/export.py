"""A network as an ONNX file, its weights beside it under their own names. The only file that imports ``onnx_ir``.

The exporter's own clean-up is left out: it takes minutes on a deep graph and renames two thirds of the weights. Without
it one construct remains that TensorRT does not read, and it is mended here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mindsight.errors import NotInstalled
from mindsight.files.digest import sha256_of_file, sha256_of_json
from mindsight.generators.engines.base import Network

OUTPUT = "output"
_OPSET = 23  # the first with attention as one operator; group normalisation is one since 21
_TRACED = 0.35  # of the time it takes; the rest is writing, at SDXL's published size
_BATCH = 2  # torch takes a batch of one for a constant
_MAX_BATCH = 32  # diffusers copies at 64 and more


def export(network: Network, path: Path, report: Callable[[float], None] = lambda share: None) -> str:
    """Write ``path`` and ``path`` + ``.data``. Returns the digest of both: the same network gives the same.

    report : is given the share that is done

    Raises NotInstalled (``engine.not_installed``).
    """
    try:
        import onnx_ir
        import onnxscript  # noqa: F401 - torch's exporter asks for it, at the end of minutes
    except ImportError as error:
        raise NotInstalled(
            f'an engine needs {error.name} for its export, not installed here: pip install "mindsight[onnx]"',
            code="engine.not_installed",
        ) from None
    model = _trace(network)
    report(_TRACED)
    _mend(model.graph)
    for value, one in zip(model.graph.inputs, network.inputs, strict=True):
        value.name = one.name  # which torch spells in small letters
    model.graph.outputs[0].name = OUTPUT
    onnx_ir.save(model, path, external_data=f"{path.name}.data")
    return sha256_of_json([sha256_of_file(path), sha256_of_file(data_of(path))])


def data_of(path: Path) -> Path:
    """The file of weights beside an ONNX file."""
    return path.with_name(f"{path.name}.data")


def _trace(network: Network) -> Any:
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    with warnings.catch_warnings():
        # torch's own, of how it copies its trees
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec", FutureWarning)
        program = torch.export.export(
            network.module.eval(),
            network.example(_BATCH),
            dynamic_shapes={one.name: {0: batch} for one in network.inputs},
        )
        exported = torch.onnx.export(program, (), dynamo=True, opset_version=_OPSET, optimize=False, verbose=False)
    assert exported is not None  # as it is with ``dynamo``
    return exported.model


def _mend(graph: Any) -> None:
    """Make one ``Split`` of each ``SplitToSequence`` with its ``SequenceAt``; drop notes that hold paths of sources."""
    import onnx_ir

    constant = onnx_ir.convenience.get_const_tensor
    for node in list(graph):
        node.metadata_props.clear()
        node.doc_string = None
        if node.op_type != "SplitToSequence":
            continue
        takers = [use.node for use in node.outputs[0].uses()]
        assert all(taker.op_type == "SequenceAt" for taker in takers), node.name
        numbers = [int(constant(taker.inputs[1]).numpy()) for taker in takers]
        axis, part_size = node.attributes["axis"].value, int(constant(node.inputs[1]).numpy())
        size = int(node.inputs[0].shape[axis])
        parts = -(-size // part_size)
        assert -(-size // parts) == part_size, node.name  # how Split divides
        split = onnx_ir.node(
            "Split",
            inputs=[node.inputs[0]],
            attributes={"axis": axis, "num_outputs": parts},
            num_outputs=parts,
        )
        graph.insert_before(node, split)
        for number, taker in zip(numbers, takers, strict=True):
            split.outputs[number].name = taker.outputs[0].name
            onnx_ir.convenience.replace_all_uses_with(taker.outputs[0], split.outputs[number])
            graph.remove(taker, safe=True)
        graph.remove(node, safe=True)
