"""Where the nodes of a graph run, and which operators they are: on CUDA, no node that computes may run on the CPU."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from crossrank.engine.runtime.providers import provider_name
from crossrank.self_check.result import CheckResult

if TYPE_CHECKING:
    from crossrank.models.manifest import Precision, Provider
    from crossrank.self_check.inspection import AssignedNode, Inspection, NodeRun

PLACEMENT = "placement"
OPERATORS = "operators"
_COPIES = frozenset({"MemcpyFromHost", "MemcpyToHost"})
_SHAPE_OPERATORS = frozenset(
    {
        "Add", "And", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity",
        "Less", "Max", "Min", "Mod", "Mul", "Not", "Range", "ReduceProd", "Reshape", "Shape", "Size", "Slice",
        "Squeeze", "Sub", "Unsqueeze", "Where",
    }
)  # fmt: skip
_ALWAYS_SHAPE = frozenset({"Constant", "Shape", "Size"})
_INTEGERS = frozenset({"bool", "int32", "int64"})
_MOST_NAMED = 10


def check_placement(inspection: Inspection, provider: Provider, precision: Precision) -> CheckResult:
    """Check that every node that computes ran on the provider; nodes that compute shapes may be on the CPU.

    A node computes a shape if its operator is one of `_SHAPE_OPERATORS` and every output holds integers or booleans in
    at most one dimension.

    Args:
        inspection: of the graph.
        provider: what the graph was loaded for.
        precision: of the graph.
    """
    expected = provider_name(provider)
    elsewhere = [run for run in inspection.runs if run.provider != expected]
    copies = [run for run in inspection.runs if run.operator in _COPIES]
    wrong = [f"{run.name} ({run.operator})" for run in elsewhere if not _is_shape(run)]
    wrong += [f"{run.name} ({run.operator})" for run in copies if run not in elsewhere]
    profiled = {run.name for run in inspection.runs}
    # A node that was fused or folded later does not appear in the profile, so only its operator can be judged.
    unprofiled = [node for node in inspection.assigned or () if node.provider != expected and node.name not in profiled]
    wrong += [f"{node.name} ({node.operator})" for node in unprofiled if node.operator not in _SHAPE_OPERATORS]
    nodes_on = Counter(run.provider for run in inspection.runs)
    figures = {
        "ran": dict(nodes_on),
        "assigned": _assigned(inspection.assigned),
        "wrong": wrong,
        "shape_nodes": sorted({run.operator for run in elsewhere if _is_shape(run)}),
    }
    if not inspection.runs:
        return CheckResult(PLACEMENT, False, "the profiled run named no node", figures, precision)
    detail = ", ".join(f"{count} nodes on {name}" for name, count in nodes_on.items())
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        detail += f"; not on {expected}, or copying between host and device: {', '.join(wrong[:_MOST_NAMED])}{more}"
    elif elsewhere:
        detail += f"; those not on {expected} compute shapes"
    return CheckResult(PLACEMENT, not wrong, detail, figures, precision)


def list_operators(inspection: Inspection, precision: Precision) -> CheckResult:
    """List the operators of a run with provider and share of time, and device kernels where the build reports them.

    Nothing is checked here: `passed` is None.

    Args:
        inspection: of the graph.
        precision: of the graph.
    """
    total = sum(run.seconds for run in inspection.runs)
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in inspection.runs:
        groups[run.operator, run.provider].append(run.seconds)
    rows = [
        {"operator": name, "provider": where, "nodes": len(times), "share": sum(times) / total if total else 0.0}
        for (name, where), times in sorted(groups.items(), key=lambda item: -sum(item[1]))
    ]
    slowest = ", ".join(f"{row['operator']} {row['share']:.0%}" for row in rows[:4])
    detail = f"{len(rows)} kinds of operators; of the host's time: {slowest}"
    kernels = dict(sorted(inspection.kernels.items(), key=lambda item: -item[1]))
    detail += f"; {len(kernels)} device kernels" if kernels else "; no device kernels reported"
    return CheckResult(OPERATORS, None, detail, {"operators": rows, "kernels": kernels}, precision)


def _is_shape(run: NodeRun) -> bool:
    if run.operator in _COPIES or run.operator not in _SHAPE_OPERATORS:
        return False
    if run.outputs is None:
        return run.operator in _ALWAYS_SHAPE
    return all(kind in _INTEGERS and dimensions <= 1 for kind, dimensions in run.outputs)


def _assigned(nodes: tuple[AssignedNode, ...] | None) -> dict[str, int] | None:
    return None if nodes is None else dict(Counter(node.provider for node in nodes))
