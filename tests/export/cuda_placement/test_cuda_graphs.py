"""The fp16 graph of every family meets the requirements of CUDA graphs and CUDA kernels."""

from __future__ import annotations

import pytest
from export_cases import HAS_OPTIMUM, LAYERS
from onnx import TensorProto
from tiny_checkpoints import FAMILIES

from crossrank.export.graph.shapes import BATCH, probe_shapes, probe_types
from crossrank.export.graph.tools import count_operators

WITH_FUSED_ATTENTION = ("bert", "roberta", "xlm-roberta", "distilbert", "electra")
INT32_INPUTS = {
    "bert": {"input_ids", "attention_mask", "token_type_ids"},
    "roberta": {"attention_mask"},
    "xlm-roberta": {"attention_mask"},
    "distilbert": {"input_ids", "attention_mask"},
    "electra": {"input_ids", "attention_mask", "token_type_ids"},
    "deberta-v2": set(),
    "modernbert": set(),
}
if not HAS_OPTIMUM:  # EmbedLayerNormalization, which reads int32, is not recognised in these graphs of torch's exporter
    INT32_INPUTS |= {family: {"attention_mask"} for family in ("bert", "electra")}


@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_no_control_flow_and_the_last_layer_is_pruned(family, exported_graph):
    graph, records = exported_graph(family, "fp16")

    assert not {"If", "Loop", "Scan"} & count_operators(graph.graph).keys()
    assert records["prune-last-layer"].changed, records["prune-last-layer"].detail


@pytest.mark.parametrize("family", WITH_FUSED_ATTENTION)
def test_attention_is_fused_in_fp16_with_each_pairs_length_as_mask(family, exported_graph):
    graph, _ = exported_graph(family, "fp16")
    shapes, types = probe_shapes(graph), probe_types(graph)
    fused = [node for node in graph.graph.node if node.op_type == "Attention"]

    assert len(fused) == LAYERS - 1
    for node in fused:
        assert types[node.output[0]] == TensorProto.FLOAT16
        assert shapes[node.input[3]] == (BATCH,)
        assert types[node.input[3]] == TensorProto.INT32


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_are_int32_if_no_reader_needs_int64(family, exported_graph):
    graph, _ = exported_graph(family, "fp16")
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}

    assert set(kinds.values()) <= {TensorProto.INT32, TensorProto.INT64}
    assert {name for name, kind in kinds.items() if kind == TensorProto.INT32} == INT32_INPUTS[family]
