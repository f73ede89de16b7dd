"""Checks, without a GPU, that onnxruntime's CUDA provider can run every compute node of a graph without a copy.

A node it has no kernel for runs on the CPU: its inputs and outputs are copied over at every run, and no CUDA graph can
be captured. onnxruntime places such nodes without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from crossrank.export.cuda_placement.copies import find_copies
from crossrank.export.cuda_placement.kernels import cuda_kernels
from crossrank.export.graph.shapes import probe_types
from crossrank.export.graph.tools import node_names, reads, skeleton, subgraphs
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crossrank.export.cuda_placement.kernels import Kernel

NAME = "cuda placement"

_STANDARD = ("", "ai.onnx")
_SHAPE = frozenset(("Shape", "Size"))
_NAMED = 5


@dataclass(frozen=True)
class PlacementProblem:
    """A compute node that CUDA has no kernel for, or that would wait for a copy.

    Attributes:
        node: its name.
        operator: its operator.
        domain: the operator's domain, "ai.onnx" for the standard one.
        types: element types of its inputs and outputs, each once; "?" where one is not known.
        reason: what there is no kernel for, or what is copied.
    """

    node: str
    operator: str
    domain: str
    types: tuple[str, ...]
    reason: str


def lint_placement(model: onnx.ModelProto) -> list[PlacementProblem]:
    """Find compute nodes that would run on the CPU, or wait for a copy, when the graph is run on CUDA.

    Left out: what depends on constants alone, which is folded when a graph is loaded, and what depends on shapes alone.
    onnxruntime keeps shape arithmetic on the CPU by itself, where CUDA kernels want their shapes.

    Args:
        model: the graph; not changed.

    Returns:
        One problem a node, missing kernels first, each in graph order. Kernels are those of `cuda_kernels.toml`.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    types = _types(model)
    problems = _lint(model.graph, versions, types, set())
    copies = find_copies(model.graph, types)
    named = zip(node_names(model.graph), model.graph.node, strict=True)
    problems += [_problem(name, node, types, copies[name]) for name, node in named if name in copies]
    return problems


def placement_record(problems: Sequence[PlacementProblem]) -> PassRecord:
    """What the manifest says of a graph's placement.

    Args:
        problems: from `lint_placement`.
    """
    found = _counted(problems) if problems else "a CUDA kernel for every compute node, no copies"
    return PassRecord(name=NAME, changed=False, detail=f"{found} ({cuda_kernels().source})")


def placement_note(file: str, problems: Sequence[PlacementProblem]) -> str:
    """A warning for the export's report.

    Args:
        file: of the graph.
        problems: from `lint_placement`, one at least.
    """
    return f"{file} on CUDA: {_counted(problems)}: slow, and CUDA graphs cannot be used"


def _counted(problems: Sequence[PlacementProblem]) -> str:
    named = "; ".join(f"{problem.operator} {problem.node}: {problem.reason}" for problem in problems[:_NAMED])
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return f"{len(problems)} compute nodes would run on the CPU or wait for copies ({named}{more})"


def _lint(
    graph: onnx.GraphProto, versions: Mapping[str, int], types: Mapping[str, str], free: set[str]
) -> list[PlacementProblem]:
    """Problems of a graph and of those inside its nodes; `free` has the tensors that cost nothing on CUDA."""
    free = free | {tensor.name for tensor in graph.initializer}
    found = []
    for name, node in zip(node_names(graph), graph.node, strict=True):
        inputs = reads(node)
        if node.op_type in _SHAPE or node.op_type == "Constant" or (inputs and free.issuperset(inputs)):
            free.update(node.output)
            continue
        reason = _missing(node, versions, types)
        if reason:
            found.append(_problem(name, node, types, reason))
        for inner in subgraphs(node):
            found += _lint(inner, versions, types, free)
    return found


def _problem(name: str, node: onnx.NodeProto, types: Mapping[str, str], reason: str) -> PlacementProblem:
    touched = [types.get(tensor, "?") for tensor in (*node.input, *node.output) if tensor]
    return PlacementProblem(name, node.op_type, node.domain or "ai.onnx", tuple(dict.fromkeys(touched)), reason)


def _missing(node: onnx.NodeProto, versions: Mapping[str, int], types: Mapping[str, str]) -> str:
    """What there is no kernel for; empty where there is one."""
    kernels = cuda_kernels().of(node.domain, node.op_type)
    if not kernels:
        return "no CUDA kernel for this operator"
    schema = _schema(node, versions)
    version = schema.since_version if schema else 1
    serving = [kernel for kernel in kernels if kernel.serves(version)]
    if not serving:
        return f"no CUDA kernel for version {version} of this operator"
    refused = [_refused(node, kernel, schema, types) for kernel in serving]
    return "" if "" in refused else refused[0]


def _schema(node: onnx.NodeProto, versions: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """The standard's definition of a node's operator; None for operators of onnxruntime's own."""
    if node.domain not in _STANDARD:
        return None
    version = max(versions.get(domain, 0) for domain in _STANDARD)
    try:
        return onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _refused(node: onnx.NodeProto, kernel: Kernel, schema: onnx.defs.OpSchema | None, types: Mapping[str, str]) -> str:
    """The first type of a node that a kernel does not take; empty where it takes all."""
    sides = (
        (node.input, kernel.inputs, schema.inputs if schema else ()),
        (node.output, kernel.outputs, schema.outputs if schema else ()),
    )
    for tensors, own, formal in sides:
        parameters: list[tuple[str, ...]] = [(name,) for name in own]
        parameters = parameters or [(item.type_str, item.name) for item in formal]
        for index, tensor in enumerate(tensors):
            kind = types.get(tensor)
            if not tensor or kind is None or not parameters:
                continue
            # The last parameter of an operator like Concat stands for all inputs that follow.
            taken = _taken(kernel, parameters[min(index, len(parameters) - 1)])
            if taken is not None and kind not in taken:
                return f"no CUDA kernel for {kind} (takes {', '.join(sorted(taken))})"
    return ""


def _taken(kernel: Kernel, names: Iterable[str]) -> frozenset[str] | None:
    return next((kernel.types[name] for name in names if name in kernel.types), None)


def _types(model: onnx.ModelProto) -> dict[str, str]:
    """Element types of the tensors outside subgraphs, as far as they can be found."""
    try:
        made = probe_types(model)
    except Exception:
        # onnxruntime refuses graphs with operators it does not know, with errors of several classes; those are
        # what the lint is to report, so it makes do with what can be inferred.
        inferred = onnx.shape_inference.infer_shapes(skeleton(model)).graph
        made = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    given = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    everything = {**made, **given, **stored}
    return {name: onnx.TensorProto.DataType.Name(kind).lower() for name, kind in everything.items() if kind}
