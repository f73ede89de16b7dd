"""What every graph pass returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from crossrank.models.manifest import PassRecord


@dataclass(frozen=True)
class PassResult:
    """A graph after a pass, and the record of what the pass did for the manifest.

    Attributes:
        model: the resulting graph. A pass that does not recognise its input returns it unchanged.
        record: name of the pass, whether it changed the graph, and a sentence of detail.
    """

    model: onnx.ModelProto
    record: PassRecord
