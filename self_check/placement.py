"""Where the nodes of a graph run, and what they are: nothing that computes may be on the CPU of a GPU's owner."""

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
_SURELY_SHAPE = frozenset({"Constant", "Shape", "Size"})
_INTEGERS = frozenset({"bool", "int32", "int64"})
_NAMED = 10


def check_placement(inspection: Inspection, provider: Provider, precision: Precision) -> CheckResult:
    """Nodes that compute ran on the provider; those that work out shapes may be on the CPU.

    A node works out a shape if its operator may and all it gives are integers or booleans of one dimension at most.

    Args:
        inspection: of the graph.
        provider: that the graph was loaded for.
        precision: of the graph.
    """
    wanted = provider_name(provider)
    elsewhere = [run for run in inspection.runs if run.provider != wanted]
    copies = [run for run in inspection.runs if run.operator in _COPIES]
    wrong = [f"{run.name} ({run.operator})" for run in elsewhere if not _is_shape(run)]
    wrong += [f"{run.name} ({run.operator})" for run in copies if run not in elsewhere]
    seen = {run.name for run in inspection.runs}
    # What was fused or folded later has no run of its own; it counts where nothing else can be said of it.
    unseen = [node for node in inspection.assigned or () if node.provider != wanted and node.name not in seen]
    wrong += [f"{node.name} ({node.operator})" for node in unseen if node.operator not in _SHAPE_OPERATORS]
    ran = Counter(run.provider for run in inspection.runs)
    figures = {
        "ran": dict(ran),
        "assigned": _assigned(inspection.assigned),
        "wrong": wrong,
        "shape_nodes": sorted({run.operator for run in elsewhere if _is_shape(run)}),
    }
    if not inspection.runs:
        return CheckResult(PLACEMENT, False, "the profiled run named no node", figures, precision)
    words = ", ".join(f"{count} nodes on {name}" for name, count in ran.items())
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        words += f"; not on {wanted}, or copying between host and device: {', '.join(wrong[:_NAMED])}{more}"
    elif elsewhere:
        words += f"; those not on {wanted} work out shapes"
    return CheckResult(PLACEMENT, not wrong, words, figures, precision)


def list_operators(inspection: Inspection, precision: Precision) -> CheckResult:
    """Operators of a run with their provider and share of time, and device kernels where the build names them.

    It tells and does not judge: `passed` is None.

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
    first = ", ".join(f"{row['operator']} {row['share']:.0%}" for row in rows[:4])
    detail = f"{len(rows)} kinds of operators; of the host's time: {first}"
    kernels = dict(sorted(inspection.kernels.items(), key=lambda item: -item[1]))
    detail += f"; {len(kernels)} device kernels" if kernels else "; no device kernels are named"
    return CheckResult(OPERATORS, None, detail, {"operators": rows, "kernels": kernels}, precision)


def _is_shape(run: NodeRun) -> bool:
    if run.operator in _COPIES or run.operator not in _SHAPE_OPERATORS:
        return False
    if run.outputs is None:
        return run.operator in _SURELY_SHAPE
    return all(kind in _INTEGERS and dimensions <= 1 for kind, dimensions in run.outputs)


def _assigned(nodes: tuple[AssignedNode, ...] | None) -> dict[str, int] | None:
    return None if nodes is None else dict(Counter(node.provider for node in nodes))
