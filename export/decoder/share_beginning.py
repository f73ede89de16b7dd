"""Lets a decoder's graph take the keys and values of a beginning, so that those are computed once for many pairs.

A token attends to those before it only. So the keys and values of what comes before the document are the same whatever
the document is: one run over the query gives them, and the runs over the documents take them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from crossrank.export.decoder.graph import BEGINNING_LENGTH, ROWS, keys_name, values_name
from crossrank.export.graph.tools import GraphView, replace
from crossrank.export.passes.base import PassResult
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "share-beginning"


def share_beginning(model: onnx.ModelProto) -> PassResult:
    """Give a graph of `write_graph` the inputs and outputs of a shared beginning.

    Args:
        model: the graph, quantized or not; not changed.

    Returns:
        A graph that takes besides input_ids, for each layer l, the float32 inputs beginning.keys.l and
        beginning.values.l [1, key heads, beginning, head size], which may be of length 0, and gives keys.l and values.l
        of its own tokens as further outputs.
    """
    shared = onnx.ModelProto()
    shared.CopyFrom(model)
    graph = shared.graph
    tensors = list(_tensors(GraphView(graph)))
    heads, size = _sizes(graph)
    shape = [1, heads, "beginning_length", size]
    graph.input.extend(helper.make_tensor_value_info(f"beginning.{name}", TensorProto.FLOAT, shape) for name in tensors)
    own = ["batch_size", heads, "sequence_length", size]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, own) for name in tensors)
    one = f"{ROWS}/ones"
    graph.initializer.extend(
        (numpy_helper.from_array(np.ones(3, np.int64), one), numpy_helper.from_array(np.array([2]), f"{one}/axis"))
    )
    # Not by replacing all of them, which protobuf cannot beyond 2 GiB.
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name == BEGINNING_LENGTH:
            del graph.initializer[index]
    sizes = helper.make_node("Shape", [f"beginning.{tensors[0]}"], ["beginning/shape"], name="beginning/shape")
    length = helper.make_node("Gather", ["beginning/shape", f"{one}/axis"], [BEGINNING_LENGTH], name=BEGINNING_LENGTH)
    copies = helper.make_node("Concat", [ROWS, one], [f"{ROWS}/shape"], name=f"{ROWS}/shape", axis=0)
    nodes: list[onnx.NodeProto] = [sizes, length]
    for node in graph.node:
        replace(node.input, [f"{name}/all" if name in tensors else name for name in node.input])
        nodes.append(node)
        if ROWS in node.output:
            nodes.append(copies)
        for name in set(tensors).intersection(node.output):
            inputs, every = [f"beginning.{name}", f"{ROWS}/shape"], f"{name}/beginning"
            nodes.append(helper.make_node("Expand", inputs, [every], name=every))
            nodes.append(helper.make_node("Concat", [every, name], [f"{name}/all"], name=f"{name}/all", axis=2))
    replace(graph.node, nodes)
    detail = f"keys and values of {len(tensors) // 2} layers; {8 * heads * size * len(tensors) // 2} bytes a token"
    return PassResult(shared, PassRecord(name=NAME, changed=True, detail=detail))


def _tensors(view: GraphView) -> Iterator[str]:
    layer = 0
    while keys_name(layer) in view.producers:
        yield keys_name(layer)
        yield values_name(layer)
        layer += 1


def _sizes(graph: onnx.GraphProto) -> tuple[int, int]:
    """Key heads and head size, from the shape that values are brought into before they are transposed."""
    view = GraphView(graph)
    reshape = view.producers[view.producers[values_name(0)].input[0]]
    shape = view.constant(reshape.input[1])
    assert shape is not None  # noqa: S101  write_graph made it one
    return int(shape[2]), int(shape[3])
