"""What a caller sees when a pass fails unexpectedly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossrank.errors import ExportError, UnsupportedCheckpointError
from crossrank.export.pass_lists import PASS_LISTS, PassContext, PassRunner
from crossrank.models.manifest import Architecture


def run(error, precision="int8"):
    def quantize(_model, _context):
        raise error

    pass_list = replace(PASS_LISTS[precision], passes=(quantize,))
    return PassRunner(None, PassContext(Architecture(model_type="bert"))).run(pass_list)


def test_an_unexpected_failure_names_pass_and_precision():
    with pytest.raises(ExportError, match=r"pass quantize .* int8 .*RuntimeError: bad node.*leave int8 out") as caught:
        run(RuntimeError("bad node"))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(ExportError, match="fp32") as caught:
        run(KeyError("name"), "fp32")
    assert "leave" not in str(caught.value)  # every other graph is compared with fp32


@pytest.mark.parametrize("error", [UnsupportedCheckpointError("why"), MemoryError(), OSError(28, "full")])
def test_errors_that_callers_handle_are_not_wrapped(error):
    with pytest.raises(type(error)) as caught:
        run(error)
    assert caught.value is error
