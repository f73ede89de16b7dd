"""What tests of whole pass lists share: the graphs an export makes of tiny checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from export_cases import LAYERS
from graph_runs import make_feeds

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from crossrank.models.manifest import PassRecord, Precision

CALIBRATION = (8, 40, 64)
"""Tokens of the pairs that ranges are measured on."""


@pytest.fixture(scope="session")
def exported_graph(
    raw_graph: Callable[..., onnx.ModelProto],
) -> Callable[[str, Precision], tuple[onnx.ModelProto, dict[str, PassRecord]]]:
    """A function `(family, precision) -> (graph, pass records by name)`: a pass list run over a tiny checkpoint."""
    from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassRunner
    from crossrank.models.manifest import Architecture

    made = {}

    def get(family: str, precision: Precision) -> tuple[onnx.ModelProto, dict[str, PassRecord]]:
        if (family, precision) not in made:
            model = raw_graph(family, layers=LAYERS)
            feeds = [make_feeds(model, [length], seed=length) for length in CALIBRATION]
            architecture = Architecture(model_type=family, num_attention_heads=4, hidden_size=64)
            graph, records = PassRunner(model, PassContext(architecture, feeds)).run(PASS_LISTS[precision])
            made[family, precision] = graph, {record.name: record for record in records}
        return made[family, precision]

    return get
