"""The lint of CUDA placement reports nodes without a CUDA kernel and copies, and nothing on exported graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from export_cases import HAS_OPTIMUM, LAYERS
from onnx import TensorProto, helper, numpy_helper
from tiny_checkpoints import FAMILIES

from crossrank.export.cuda_placement.kernels import cuda_kernels, parse_kernels
from crossrank.export.cuda_placement.placement import lint_placement, placement_note, placement_record
from crossrank.export.graph.tools import count_operators

NEEDS_THE_TABLES_ONNX = pytest.mark.skipif(
    onnx.defs.onnx_opset_version() < 23,
    reason="this onnx is older than the table, which names types and operators of opset 23",
)
IDS = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])


def graph_of(*nodes: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None, opset: int = 17):
    """A graph from `input_ids` to the last node's output, of any type."""
    output = onnx.ValueInfoProto(name=nodes[-1].output[0])
    tensors = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "made up", [IDS], [output], tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"to {target}", to=kind)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_compute_node_of_a_cuda_graph_has_a_kernel(family, precision, exported_graph):
    assert lint_placement(exported_graph(family, precision)[0]) == []


def test_an_int8_graph_is_reported(exported_graph):
    """The lint is not silent because it sees nothing."""
    problems = lint_placement(exported_graph("bert", "int8")[0])

    assert {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "DynamicQuantizeLinear"} & {
        problem.operator for problem in problems
    }


def test_an_operator_without_a_kernel_is_named():
    quantize = helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"], name="quantizer")
    model = graph_of(cast("input_ids", "x", TensorProto.FLOAT), quantize)

    [problem] = lint_placement(model)
    assert (problem.node, problem.operator, problem.domain) == ("quantizer", "DynamicQuantizeLinear", "ai.onnx")
    assert problem.types == ("float", "uint8")
    assert "no CUDA kernel for this operator" in problem.reason


def test_an_unknown_operator_is_named_with_its_domain():
    nodes = (cast("input_ids", "x", TensorProto.FLOAT), helper.make_node("Frobnicate", ["x"], ["y"], domain="com.me"))
    model = graph_of(*nodes)
    model.opset_import.append(helper.make_opsetid("com.me", 1))

    [problem] = lint_placement(model)
    assert (problem.operator, problem.domain) == ("Frobnicate", "com.me")
    assert problem.node, "a node without a name gets one"
    assert "float" in problem.types


def test_a_type_without_a_kernel_is_reported_with_the_accepted_types():
    limits = {"low": np.int32(0), "high": np.int32(9)}
    nodes = (cast("input_ids", "x", TensorProto.INT32), helper.make_node("Clip", ["x", "low", "high"], ["y"], name="c"))
    [problem] = lint_placement(graph_of(*nodes, constants={name: np.asarray(v) for name, v in limits.items()}))

    assert (problem.node, problem.types) == ("c", ("int32",))
    assert "int32" in problem.reason
    assert "int64" in problem.reason
    doubled = (cast("input_ids", "x", TensorProto.DOUBLE), helper.make_node("Erf", ["x"], ["y"], name="e"))
    assert lint_placement(graph_of(*doubled)) == []


def test_a_contrib_operators_types_are_checked_input_by_input():
    nodes = [cast("input_ids", "x", TensorProto.DOUBLE)]
    nodes.append(helper.make_node("SkipLayerNormalization", ["x", "x", "g"], ["y"], name="n", domain="com.microsoft"))
    [problem] = lint_placement(graph_of(*nodes, constants={"g": np.ones(4)}))

    assert problem.node == "n"
    assert "double" in problem.reason


def test_a_version_without_a_kernel_is_reported():
    """Cos of version 22 is another operator to onnxruntime than Cos of version 7, whose kernel range is open."""
    nodes = (cast("input_ids", "x", TensorProto.FLOAT), helper.make_node("Cos", ["x"], ["y"], name="angle"))

    assert lint_placement(graph_of(*nodes, opset=21)) == []
    [problem] = lint_placement(graph_of(*nodes, opset=22))
    assert "version 22" in problem.reason


def test_shape_arithmetic_and_constants_may_stay_on_the_cpu():
    """Neither Clip nor Tile has a CUDA kernel for these types; but they do not work on activations here."""
    constants = {"low": np.asarray(0, np.int32), "high": np.asarray(9, np.int32), "twice": np.asarray([2])}
    nodes = (
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        cast("shape", "narrow", TensorProto.INT32),
        helper.make_node("Clip", ["narrow", "low", "high"], ["clipped"]),
        helper.make_node("Constant", [], ["flag"], value=numpy_helper.from_array(np.asarray([True]), "flag")),
        helper.make_node("Tile", ["flag", "twice"], ["flags"]),
        helper.make_node("Where", ["flags", "clipped", "narrow"], ["chosen"]),
        cast("chosen", "wide", TensorProto.INT64),
        helper.make_node("Expand", ["low", "wide"], ["y"]),
    )
    assert lint_placement(graph_of(*nodes, constants=constants)) == []
    depends = helper.make_node("Tile", ["real", "twice"], ["y"], name="computes")
    problems = lint_placement(graph_of(cast("input_ids", "real", TensorProto.BOOL), depends, constants=constants))
    assert [problem.node for problem in problems] == ["computes"]


def attention_scale() -> list[onnx.NodeProto]:
    """Float arithmetic on a dimension of `x`, as some exporters write the scale of attention."""
    return [
        cast("input_ids", "x", TensorProto.FLOAT),
        helper.make_node("Shape", ["x"], ["shape"]),
        cast("shape", "sizes", TensorProto.FLOAT),
        helper.make_node("Sqrt", ["sizes"], ["scale"]),
        helper.make_node("Mul", ["x", "scale"], ["scaled"], name="scaling"),
    ]


def test_a_copy_from_the_cpu_is_reported_at_the_node_that_waits_for_it():
    [problem] = lint_placement(graph_of(*attention_scale()))

    assert (problem.node, problem.operator, problem.types) == ("scaling", "Mul", ("float",))
    assert "scale is made on the CPU and copied" in problem.reason


def test_a_copy_to_the_cpu_is_reported():
    """A shape that depends on tokens has to come back from the GPU."""
    most = helper.make_node("ReduceMax", ["input_ids"], ["most"], keepdims=0, name="most")
    listed = helper.make_node("Unsqueeze", ["most", "first"], ["size"], name="as a shape")
    zeros = helper.make_node("ConstantOfShape", ["size"], ["y"], name="zeros")
    [problem] = lint_placement(graph_of(most, listed, zeros, constants={"first": np.asarray([0])}))

    assert problem.node == "zeros"
    assert "size is read on the CPU and copied" in problem.reason


@pytest.mark.parametrize("family", ["distilbert", "deberta-v2"])
def test_scales_from_fixed_dimensions_are_constants_and_need_no_copy(family, raw_graph, exported_graph):
    if HAS_OPTIMUM and family == "deberta-v2":  # in the other graphs they are constants from the beginning
        before = {problem.operator for problem in lint_placement(raw_graph(family, layers=LAYERS))}
        assert {"Mul", "Div"} & before
    assert "Sqrt" not in count_operators(exported_graph(family, "fp32")[0].graph)


def test_nodes_inside_branches_are_checked():
    def branch(name: str, operator: str) -> onnx.GraphProto:
        node = helper.make_node(operator, ["x"], [name], name=f"{operator} of {name}")
        return helper.make_graph([node], name, [], [onnx.ValueInfoProto(name=name)])

    constants = {"yes": np.asarray(True)}
    choice = helper.make_node(
        "If", ["yes"], ["y"], name="choice", then_branch=branch("a", "Erf"), else_branch=branch("b", "Asinh")
    )
    problems = lint_placement(graph_of(cast("input_ids", "x", TensorProto.FLOAT), choice, constants=constants))

    assert [problem.node for problem in problems] == ["Asinh of b"]


def test_a_long_report_names_the_first_problems_and_counts_the_rest():
    nodes = [cast("input_ids", "x0", TensorProto.FLOAT)]
    nodes += [helper.make_node("Asinh", [f"x{i}"], [f"x{i + 1}"], name=f"node {i}") for i in range(200)]
    problems = lint_placement(graph_of(*nodes))

    assert len(problems) == 200
    for text in (placement_record(problems).detail, placement_note("fp16.onnx", problems)):
        assert "200 compute nodes would run on the CPU" in text
        assert "node 0" in text
        assert "and 195 more" in text
        assert len(text) < 600
    assert not placement_record(problems).changed
    assert placement_note("fp16.onnx", problems).startswith("fp16.onnx")
    assert "a CUDA kernel for every compute node" in placement_record([]).detail


@NEEDS_THE_TABLES_ONNX
def test_the_table_has_a_source_and_names_types_as_onnx_does():
    table = cuda_kernels()
    known = {TensorProto.DataType.Name(kind).lower() for kind in TensorProto.DataType.values()} | {"seq"}

    assert "onnxruntime docs/OperatorKernels.md, commit 001d12d2" in table.source
    assert len(table.kernels) > 200
    for key, kernels in table.kernels.items():
        for kernel in kernels:
            assert set().union(*kernel.types.values()) <= known, key
            assert kernel.last is None or kernel.first <= kernel.last, key
            assert not kernel.inputs or set(kernel.types) <= {*kernel.inputs, *kernel.outputs}, key


@NEEDS_THE_TABLES_ONNX
def test_the_tables_operators_and_parameters_are_those_of_onnx():
    """A slip of the pen in the table would let nodes pass, or refuse them, unseen."""
    ours_alone = {"Affine", "Crop", "DynamicSlice", "ImageScaler", "MemcpyFromHost", "MemcpyToHost"}
    ours_alone |= {"ParametricSoftplus", "ScaledTanh", "SimplifiedLayerNormalization"}
    for (domain, operator), kernels in cuda_kernels().kernels.items():
        if domain != "ai.onnx" or operator in ours_alone:
            continue
        for kernel in kernels:
            version = kernel.last or kernel.first
            if (operator, kernel.first) in {("LayerNormalization", 1), ("ThresholdedRelu", 1)}:
                continue  # operators of onnxruntime before they became standard
            schema = onnx.defs.get_schema(operator, version)
            names = {item.type_str for item in (*schema.inputs, *schema.outputs)}
            names |= {item.name for item in (*schema.inputs, *schema.outputs)}
            assert set(kernel.types) <= names, (operator, kernel.first)
            if kernel.last is None:
                assert schema.since_version == kernel.first, (operator, kernel.first)


def test_entries_are_parsed_as_the_comment_of_the_file_describes():
    table = parse_kernels(
        '[source]\npath = "a.md"\ncommit = "0123456789"\n[host_inputs]\nOne = [1]\n'
        '[sets]\nF = "float double"\nG = "F bool"\n'
        '["ai.onnx"]\nOne = ["1-6 9 T=F int8", "10+ T=G U=int64"]\n["com.microsoft"]\nTwo = ["1+ T=F (T M > T)"]\n'
    )
    first, second, third = table.of("", "One")

    assert [(kernel.first, kernel.last) for kernel in (first, second, third)] == [(1, 6), (9, 9), (10, None)]
    assert first.types == second.types == {"T": {"float", "double", "int8"}}
    assert third.types == {"T": {"float", "double", "bool"}, "U": {"int64"}}
    assert [first.supports(version) for version in (1, 6, 7)] == [True, True, False]
    assert [third.supports(version) for version in (9, 10, 11)] == [False, True, False]
    [contrib] = table.of("com.microsoft", "Two")
    assert (contrib.inputs, contrib.outputs) == (("T", "M"), ("T",))
    assert table.of("com.microsoft", "One") == ()
    assert table.host_inputs == {"One": {1}}
