"""Which provider runs each node of a graph, and what a profiled run spends its time on.

Both are read from a separate session, made as the engine makes its own but without CUDA graphs: a replayed graph has no
nodes to profile.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.runtime.cuda.options import cuda_provider_options
from crossrank.engine.runtime.reference_pairs import artifact_encoder, encode_pairs
from crossrank.engine.runtime.session import checked_inputs, open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crossrank.models.manifest import Precision
    from crossrank.self_check.subject import Subject

_NODE_SUFFIX = "_kernel_time"
_DOCUMENTS = 8
_LONGEST = 128


@dataclass(frozen=True)
class AssignedNode:
    """A node and the provider that onnxruntime assigned it to, before that provider's own fusions."""

    name: str
    operator: str
    provider: str


@dataclass(frozen=True)
class NodeRun:
    """A node of a profiled run.

    Attributes:
        name: the node's name.
        operator: its operator, with the domain left out.
        provider: where it ran.
        seconds: of host time; on CUDA that is the launch, not the kernel.
        outputs: type and number of dimensions of each output; None where the profile lacks them.
    """

    name: str
    operator: str
    provider: str
    seconds: float
    outputs: tuple[tuple[str, int], ...] | None


@dataclass(frozen=True)
class Inspection:
    """What was read about one graph.

    Attributes:
        assigned: every node with its provider; None where this onnxruntime does not report it.
        runs: nodes of the profiled run.
        kernels: device kernels of the profiled run by name, in seconds; empty where this build does not report them.
    """

    assigned: tuple[AssignedNode, ...] | None
    runs: tuple[NodeRun, ...]
    kernels: Mapping[str, float]


def inspect_graph(subject: Subject, precision: Precision) -> Inspection:
    """Load the graph of a precision and run one batch of real pairs with onnxruntime's profiler on.

    Args:
        subject: what is checked.
        precision: of the graph.

    Raises:
        ArtifactError: onnxruntime refuses the graph.
        ProviderError: onnxruntime placed it on another provider.
    """
    path = subject.artifact.path(subject.graph(precision).file)
    options = cuda_provider_options(subject.device, memory_limit=None, capture=False)
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(
            path,
            provider=subject.provider,
            threads=1,
            spin=False,
            provider_options=options if subject.provider == "cuda" else None,
            profile=Path(folder) / "profile",
        )
        feeds = _feeds(subject, checked_inputs(session, path))
        for _ in range(2):  # the first run allocates and initializes; the last one is read
            session.run(None, feeds)
        assigned = _assignment(session)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs, kernels = read_profile(events)
    return Inspection(assigned, runs, kernels)


def read_profile(events: Sequence[Mapping[str, Any]]) -> tuple[tuple[NodeRun, ...], dict[str, float]]:
    """The nodes and the device kernels of the last run in a profile of onnxruntime.

    Args:
        events: the profile's JSON list.
    """
    starts = [event["ts"] for event in events if event.get("cat") == "Session" and event.get("name") == "model_run"]
    last_start = max(starts, default=0)
    runs, kernels = [], dict[str, float]()
    for event in events:
        if event.get("ts", 0) < last_start:
            continue
        name, arguments = event.get("name", ""), event.get("args", {})
        seconds = event.get("dur", 0) / 1e6
        if event.get("cat") == "Node" and name.endswith(_NODE_SUFFIX):
            outputs = arguments.get("output_type_shape")
            runs.append(
                NodeRun(
                    name.removesuffix(_NODE_SUFFIX),
                    arguments.get("op_name", ""),
                    arguments.get("provider", ""),
                    seconds,
                    None if outputs is None else tuple(_types(outputs)),
                )
            )
        elif event.get("cat") == "Kernel":
            kernels[name] = kernels.get(name, 0.0) + seconds
    return tuple(runs), kernels


def _types(outputs: Iterable[Mapping[str, Sequence[int]]]) -> Iterable[tuple[str, int]]:
    for output in outputs:
        yield from ((kind, len(shape)) for kind, shape in output.items())


def _assignment(session: Any) -> tuple[AssignedNode, ...] | None:
    assignment = getattr(session, "get_provider_graph_assignment_info", None)
    if assignment is None:  # onnxruntime has it from 1.24 on
        return None
    return tuple(
        AssignedNode(node.name, node.op_type, subgraph.ep_name)
        for subgraph in assignment()
        for node in subgraph.get_nodes()
    )


def _feeds(subject: Subject, types: Mapping[str, type[np.integer[Any]]]) -> dict[str, Any]:
    """A padded batch of pairs, in the integer types that the graph takes."""
    encoder = artifact_encoder(subject.artifact)
    documents = subject.texts.mixed(_DOCUMENTS, longest=_LONGEST)
    pairs = encode_pairs(encoder, [(subject.texts.query, document) for document in documents])
    arrays = encoder.assemble(pairs, np.arange(len(documents)), int(pairs.lengths.max()))
    return {name: getattr(arrays, name).astype(kind) for name, kind in types.items()}
