"""Calibration runs graphs of any size: those that protobuf cannot serialize go through a file."""

from __future__ import annotations

import numpy as np
from graph_runs import make_feeds

from crossrank.export.graph import files
from crossrank.export.passes.int8.calibration import score


def test_a_graph_too_large_for_one_message_scores_the_same_through_a_file(raw_graph, monkeypatch, tmp_path):
    model = raw_graph("bert")
    feeds = [make_feeds(model, [length], seed=length) for length in (8, 24)]
    whole = score(model, feeds)
    monkeypatch.setattr(files, "EXTERNAL_DATA_FROM", 1)
    saved = []
    original = files.save_graph
    monkeypatch.setattr(
        files,
        "save_graph",
        lambda model, folder, name: saved.append(name) or original(model, folder, name, external_data_from=1),
    )

    np.testing.assert_array_equal(score(model, feeds), whole)
    assert saved == ["model.onnx"]
