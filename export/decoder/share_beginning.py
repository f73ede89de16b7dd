"""Lets a decoder's graph take the keys and values of a beginning, so that those are computed once for many pairs.

A token attends to those before it only. So the keys and values of what comes before the document are the same whatever
the document is: one run over the query gives them, and the runs over the documents take them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from crossrank.export.decoder.graph import BEGINNING_LENGTH, ROWS, keys_name, values_name
from crossrank.export.graph.editing import GraphEdit, NodeBuilder
from crossrank.export.graph.tools import GraphView
from crossrank.export.passes.base import PassResult
from crossrank.models.manifest import PassRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

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
    edit, view = GraphEdit(model), GraphView(model.graph)
    graph = edit.model.graph
    tensors = list(_tensors(view))
    heads, size = _sizes(view)
    shape = [1, heads, "beginning_length", size]
    graph.input.extend(helper.make_tensor_value_info(f"beginning.{name}", TensorProto.FLOAT, shape) for name in tensors)
    own = ["batch_size", heads, "sequence_length", size]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, own) for name in tensors)
    # One by one: protobuf cannot replace all of them where they are more than 2 GiB.
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name == BEGINNING_LENGTH:
            del graph.initializer[index]
    first = NodeBuilder()
    sizes = first.add("Shape", [f"beginning.{tensors[0]}"], "beginning/shape")
    first.add("Gather", [sizes, first.constant("beginning/axis", [2])], BEGINNING_LENGTH)
    edit.first(first.nodes)
    rows = NodeBuilder()
    rows.add("Concat", [ROWS, rows.constant(f"{ROWS}/ones", [1, 1, 1])], f"{ROWS}/shape", axis=0)
    edit.after(ROWS, rows.nodes)
    for name in tensors:
        both = NodeBuilder()
        every = both.add("Expand", [f"beginning.{name}", f"{ROWS}/shape"], f"{name}/beginning")
        whole = both.add("Concat", [every, name], f"{name}/all", axis=2)
        edit.after(name, both.nodes)
        for reader in view.consumers[name]:
            edit.read_instead_in(reader.output[0], {name: whole})
    shared = edit.finish()
    detail = f"keys and values of {len(tensors) // 2} layers; {8 * heads * size * len(tensors) // 2} bytes a token"
    return PassResult(shared, PassRecord(name=NAME, changed=True, detail=detail))


def _tensors(view: GraphView) -> Iterator[str]:
    layer = 0
    while keys_name(layer) in view.producers:
        yield keys_name(layer)
        yield values_name(layer)
        layer += 1


def _sizes(view: GraphView) -> tuple[int, int]:
    """Key heads and head size, from the shape that values are brought into before they are transposed."""
    reshape = view.producers[view.producers[values_name(0)].input[0]]
    shape = view.constant(reshape.input[1])
    assert shape is not None  # noqa: S101  write_graph made it one
    return int(shape[2]), int(shape[3])
