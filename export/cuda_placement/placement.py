"""Checks, without a GPU, that onnxruntime's CUDA provider can run every compute node of a graph without a copy.

A node without a CUDA kernel runs on the CPU: its inputs and outputs are copied in every run, and no CUDA graph can be
captured. onnxruntime does so silently.
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
_MOST_NAMES = 5


@dataclass(frozen=True)
class PlacementProblem:
    """A compute node without a CUDA kernel, or one that would wait for a copy.

    Attributes:
        node: name of the node.
        operator: operator of the node.
        domain: the operator's domain, "ai.onnx" for the standard one.
        types: distinct element types of its inputs and outputs; "?" for an unknown one.
        reason: which kernel is missing, or what is copied.
    """

    node: str
    operator: str
    domain: str
    types: tuple[str, ...]
    reason: str


def lint_placement(model: onnx.ModelProto) -> list[PlacementProblem]:
    """Find compute nodes that would run on the CPU, or wait for a copy, when the graph is run on CUDA.

    Nodes that depend only on constants are left out, because onnxruntime folds them when it loads a graph. So are nodes
    that depend only on shapes: onnxruntime keeps shape arithmetic on the CPU, where CUDA kernels read shapes.

    Args:
        model: the graph; not changed.

    Returns:
        One problem per node: first missing kernels, then copies, each in graph order. The known kernels are those in
        `cuda_kernels.toml`.
    """
    versions = {entry.domain: entry.version for entry in model.opset_import}
    types = _types(model)
    problems = _lint(model.graph, versions, types, set())
    copies = find_copies(model.graph, types)
    named = zip(node_names(model.graph), model.graph.node, strict=True)
    problems += [_problem(name, node, types, copies[name]) for name, node in named if name in copies]
    return problems


def placement_record(problems: Sequence[PlacementProblem]) -> PassRecord:
    """The manifest's record of a graph's placement.

    Args:
        problems: from `lint_placement`.
    """
    summary = _counted(problems) if problems else "a CUDA kernel for every compute node, no copies"
    return PassRecord(name=NAME, changed=False, detail=f"{summary} ({cuda_kernels().source})")


def placement_note(file: str, problems: Sequence[PlacementProblem]) -> str:
    """A warning for the export's report.

    Args:
        file: file name of the graph.
        problems: from `lint_placement`; at least one.
    """
    return f"{file} on CUDA: {_counted(problems)}: slow, and CUDA graphs cannot be used"


def _counted(problems: Sequence[PlacementProblem]) -> str:
    named = "; ".join(f"{problem.operator} {problem.node}: {problem.reason}" for problem in problems[:_MOST_NAMES])
    more = f"; and {len(problems) - _MOST_NAMES} more" if len(problems) > _MOST_NAMES else ""
    return f"{len(problems)} compute nodes would run on the CPU or wait for copies ({named}{more})"


def _lint(
    graph: onnx.GraphProto, versions: Mapping[str, int], types: Mapping[str, str], free: set[str]
) -> list[PlacementProblem]:
    """Missing kernels of a graph and its subgraphs; `free` holds tensors that need no CUDA kernel."""
    free = free | {tensor.name for tensor in graph.initializer}
    problems = []
    for name, node in zip(node_names(graph), graph.node, strict=True):
        inputs = reads(node)
        if node.op_type in _SHAPE or node.op_type == "Constant" or (inputs and free.issuperset(inputs)):
            free.update(node.output)
            continue
        reason = _missing(node, versions, types)
        if reason:
            problems.append(_problem(name, node, types, reason))
        for inner in subgraphs(node):
            problems += _lint(inner, versions, types, free)
    return problems


def _problem(name: str, node: onnx.NodeProto, types: Mapping[str, str], reason: str) -> PlacementProblem:
    touched = [types.get(tensor, "?") for tensor in (*node.input, *node.output) if tensor]
    return PlacementProblem(name, node.op_type, node.domain or "ai.onnx", tuple(dict.fromkeys(touched)), reason)


def _missing(node: onnx.NodeProto, versions: Mapping[str, int], types: Mapping[str, str]) -> str:
    """Which kernel a node misses; empty if it has one."""
    kernels = cuda_kernels().of(node.domain, node.op_type)
    if not kernels:
        return "no CUDA kernel for this operator"
    schema = _schema(node, versions)
    version = schema.since_version if schema else 1
    matching = [kernel for kernel in kernels if kernel.supports(version)]
    if not matching:
        return f"no CUDA kernel for version {version} of this operator"
    reasons = [_type_mismatch(node, kernel, schema, types) for kernel in matching]
    return "" if "" in reasons else reasons[0]


def _schema(node: onnx.NodeProto, versions: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    """The ONNX standard's definition of a node's operator; None for operators of onnxruntime."""
    if node.domain not in _STANDARD:
        return None
    version = max(versions.get(domain, 0) for domain in _STANDARD)
    try:
        return onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _type_mismatch(
    node: onnx.NodeProto, kernel: Kernel, schema: onnx.defs.OpSchema | None, types: Mapping[str, str]
) -> str:
    """The first type of a node that a kernel does not accept; empty if it accepts all."""
    sides = (
        (node.input, kernel.inputs, schema.inputs if schema else ()),
        (node.output, kernel.outputs, schema.outputs if schema else ()),
    )
    for tensors, listed, formal in sides:
        parameters: list[tuple[str, ...]] = [(name,) for name in listed]
        parameters = parameters or [(item.type_str, item.name) for item in formal]
        for index, tensor in enumerate(tensors):
            kind = types.get(tensor)
            if not tensor or kind is None or not parameters:
                continue
            # The last parameter of a variadic operator such as Concat covers all further inputs.
            accepted = _accepted_types(kernel, parameters[min(index, len(parameters) - 1)])
            if accepted is not None and kind not in accepted:
                return f"no CUDA kernel for {kind} (takes {', '.join(sorted(accepted))})"
    return ""


def _accepted_types(kernel: Kernel, names: Iterable[str]) -> frozenset[str] | None:
    return next((kernel.types[name] for name in names if name in kernel.types), None)


def _types(model: onnx.ModelProto) -> dict[str, str]:
    """Element types of the tensors outside subgraphs, as far as they can be determined."""
    try:
        made = probe_types(model)
    except Exception:
        # onnxruntime refuses graphs with unknown operators, with errors of several classes. The lint has to report
        # such operators, so it uses the types that shape inference gives.
        inferred = onnx.shape_inference.infer_shapes(skeleton(model)).graph
        made = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    given = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    everything = {**made, **given, **stored}
    return {name: onnx.TensorProto.DataType.Name(kind).lower() for name, kind in everything.items() if kind}
