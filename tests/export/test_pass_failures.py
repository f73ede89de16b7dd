"""What a caller sees when a pass cannot follow a graph, or would make an invalid one."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
from export_cases import write_pairs

from crossrank.errors import ExportError, UnsupportedCheckpointError
from crossrank.export import export
from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassRunner
from crossrank.export.passes.base import PassResult
from crossrank.models.manifest import Architecture, PassRecord

CONTEXT = PassContext(Architecture(model_type="bert"))


def run(step, model=None, precision="int8"):
    return PassRunner(model, CONTEXT).run(replace(PASS_LISTS[precision], passes=(step,)))


def fails_with(error, name):
    def step(_model, _context):
        raise error

    step.__name__ = name
    return step


def test_a_pass_that_cannot_follow_a_graph_leaves_it_alone_and_says_so(raw_graph):
    model = raw_graph("bert")
    result, (record,) = run(fails_with(RuntimeError("bad node"), "fuse_for_cpu"), model)
    assert result is model
    assert (record.name, record.changed) == ("fuse_for_cpu", False)
    assert "left alone" in record.detail
    assert "RuntimeError: bad node" in record.detail


def test_a_pass_that_makes_an_invalid_graph_leaves_it_alone_and_says_so(raw_graph):
    def prune_last_layer(model, _context):
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        del broken.graph.node[0]
        return PassResult(broken, PassRecord(name="prune", changed=True))

    model = raw_graph("bert")
    result, (record,) = run(prune_last_layer, model)
    assert result is model
    assert "onnxruntime does not load the result" in record.detail


@pytest.mark.parametrize("step", [fails_with(RuntimeError("bad node"), "quantize"), None])
def test_a_precision_that_cannot_be_made_is_not_made_up(step, raw_graph):
    def quantize(model, _context):
        return PassResult(model, PassRecord(name="int8", changed=False, detail="no matrix to quantize"))

    with pytest.raises(ExportError, match=r"pass quantize .* int8 .*(bad node|no matrix).*leave int8 out"):
        run(step or quantize, raw_graph("bert"))


@pytest.mark.parametrize("error", [UnsupportedCheckpointError("why"), MemoryError(), OSError(28, "full")])
def test_errors_that_callers_handle_are_not_wrapped(error):
    with pytest.raises(type(error)) as caught:
        run(fails_with(error, "quantize"))
    assert caught.value is error


def test_an_export_goes_on_without_a_precision_that_cannot_be_made(tiny_checkpoint, tmp_path, monkeypatch):
    step = fails_with(RuntimeError("bad node"), "quantize")
    monkeypatch.setitem(PASS_LISTS, "int8", replace(PASS_LISTS["int8"], passes=(step,)))
    options = {"verification_pairs": write_pairs(tmp_path / "pairs.jsonl")}

    report = export(tiny_checkpoint("bert"), tmp_path / "out", precisions=["fp32", "int8"], **options)

    assert [graph.precision for graph in report.graphs] == ["fp32"]
    assert any("no int8 graph was made" in note and "bad node" in note for note in report.notes)
    with pytest.raises(ExportError, match="bad node"):
        export(tiny_checkpoint("bert"), tmp_path / "alone", precisions=["int8"], **options)
