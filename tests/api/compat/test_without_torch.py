"""`crossrank.compat.CrossEncoder` without torch, and with a torch that nobody asked for."""

from __future__ import annotations

import pytest
from fresh_python import run_python

pytest.importorskip("torch", reason="the artifact is exported with it")

WITHOUT_TORCH = """
import sys
import numpy as np
blocked = sys.argv[2] == "blocked"
if blocked:
    sys.modules["torch"] = None
from crossrank.compat import CrossEncoder, identity
from crossrank.errors import MissingDependencyError
pairs = [("who reads", "cold water"), ("the river", "every reader"), ("a", "b")]
with CrossEncoder(sys.argv[1], device="cpu") as model:
    scores = model.predict(pairs)
    logits = model.predict(pairs, activation_fn=identity)
    assert len(model.rank("who", ["a", "b"])) == 2
    assert blocked or "torch" not in sys.modules, "neither of these needs torch"
    assert not {"transformers", "onnx"} & sys.modules.keys()
    if blocked:
        seen = []
        own = model.predict(pairs, activation_fn=lambda x: (seen.append((type(x), x.shape)), 1 / (1 + np.exp(-x)))[1])
        assert seen == [(np.ndarray, (3, 1))]
        assert np.allclose(own, scores, atol=1e-6)
        for options in ({"convert_to_tensor": True}, {"convert_to_numpy": False}):
            try:
                model.predict(pairs, **options)
            except MissingDependencyError as error:
                assert "torch is not installed" in str(error)
            else:
                raise AssertionError(options)
print("done")
"""


@pytest.mark.parametrize("torch_is", ["blocked", "installed"])
def test_without_torch_it_scores_and_with_it_it_does_not_load_it_unasked(torch_is, folder):
    assert run_python(WITHOUT_TORCH, folder, torch_is).strip() == "done"
