"""Values that options of several commands take."""

from __future__ import annotations

from enum import StrEnum


class ProviderOption(StrEnum):
    """Execution provider."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class MeasuredProviderOption(StrEnum):
    """Execution provider that a benchmark measures; there is no 'auto', so that it is known what was measured."""

    cpu = "cpu"
    cuda = "cuda"


class PrecisionOption(StrEnum):
    """Precision of the graph."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class LongDocumentsOption(StrEnum):
    """How to read documents that are longer than the model's maximum."""

    truncate = "truncate"
    windows = "windows"


class AggregationOption(StrEnum):
    """How a document's score is computed from the scores of its windows."""

    max = "max"
    first = "first"
    mean = "mean"
    top_mean = "top-mean"


class ActivationOption(StrEnum):
    """What turns a logit into a score."""

    identity = "identity"
    sigmoid = "sigmoid"


class ExporterOption(StrEnum):
    """What makes the ONNX graph of a checkpoint."""

    optimum = "optimum"
    torch = "torch"


class DocumentLengthOption(StrEnum):
    """Length of a benchmark's documents."""

    short = "short"
    middle = "middle"
    long = "long"
    mixed = "mixed"


class MeasuredPrecisionOption(StrEnum):
    """Precision of the graph that a benchmark measures."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"
