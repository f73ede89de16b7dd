"""Pass lists: passes run in order, shared ones once, and only graphs that later lists can start from stay in memory."""

from __future__ import annotations

import gc
import weakref

import pytest

from crossrank.errors import InvalidInputError
from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassList, PassRunner, checked_precisions
from crossrank.export.passes.base import PassResult
from crossrank.models.manifest import Architecture, PassRecord

CONTEXT = PassContext(Architecture(model_type="bert"))


class Graph:
    """Stands for a model and records the passes that were run on it."""

    class _Weights:
        initializer = ()

    graph = _Weights()

    def __init__(self, history: tuple[str, ...] = ()) -> None:
        self.history = history


def make_pass(name: str, log: list[str]):
    def run(model: Graph, context: PassContext) -> PassResult:
        assert context is CONTEXT
        log.append(name)
        return PassResult(Graph((*model.history, name)), PassRecord(name=name, changed=True))

    return run


@pytest.fixture
def log():
    return []


@pytest.fixture
def lists(log):
    a, b, c, d, e = (make_pass(name, log) for name in "abcde")
    return [
        PassList("fp32", ("cpu",), (a, b)),
        PassList("int8", ("cpu",), (a, b, c)),
        PassList("fp16", ("cuda",), (a, d, e)),
    ]


def test_passes_run_in_order_and_shared_ones_once(lists, log):
    runner = PassRunner(Graph(), CONTEXT)
    made = [runner.run(one, keep_for=lists[index + 1 :]) for index, one in enumerate(lists)]

    assert [model.history for model, _ in made] == [("a", "b"), ("a", "b", "c"), ("a", "d", "e")]
    assert [[record.name for record in records] for _, records in made] == [
        ["a", "b"],
        ["a", "b", "c"],
        ["a", "d", "e"],
    ]
    assert log == ["a", "b", "c", "d", "e"]


def test_a_graph_that_no_later_list_can_start_from_is_freed(lists):
    base = Graph()
    runner = PassRunner(base, CONTEXT)
    reference = weakref.ref(base)
    del base
    first, _ = runner.run(lists[0], keep_for=lists[1:])
    gc.collect()
    assert reference() is None, "every list starts with pass a, so the exported graph is not needed again"
    reference = weakref.ref(first)
    del first
    runner.run(lists[1], keep_for=lists[2:])
    gc.collect()
    assert reference() is None
    assert runner.run(lists[2])[0].history == ("a", "d", "e")


def test_a_list_without_passes_is_the_graph_itself():
    base = Graph()
    model, records = PassRunner(base, CONTEXT).run(PassList("fp32", ("cpu",), ()))
    assert model is base
    assert records == ()


def test_every_precision_has_its_list():
    assert {name: pass_list.precision for name, pass_list in PASS_LISTS.items()} == {
        "fp32": "fp32",
        "int8": "int8",
        "fp16": "fp16",
    }
    assert PASS_LISTS["int8"].providers == ("cpu",), "there are no int8 kernels on CUDA"


def test_precisions_come_in_one_order_and_once():
    assert checked_precisions(["fp16", "fp32", "fp16"]) == ("fp32", "fp16")
    for wrong in (["fp64"], [], ["fp32", "int4"]):
        with pytest.raises(InvalidInputError, match="one or more of fp32, fp16, int8"):
            checked_precisions(wrong)
