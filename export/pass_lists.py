"""The passes that make the graph of each precision, in the order they run.

To add a pass, write a function `(model, context) -> PassResult` and name it in the lists that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from crossrank.errors import CrossrankError, ExportError, InvalidInputError, UnsupportedCheckpointError
from crossrank.export.graph.files import weight_bytes
from crossrank.export.memory import release
from crossrank.export.passes.base import PassResult
from crossrank.models.manifest import PassRecord, Precision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.dependencies import Exporter
    from crossrank.models.manifest import Architecture, Batching, Provider


@dataclass(frozen=True)
class PassContext:
    """What passes may need besides the graph.

    Attributes:
        architecture: dimensions of the transformer.
        calibration: feeds of one unpadded pair each ([1, length] int64 by input name); the pairs
            of a query are adjacent.
    """

    architecture: Architecture
    calibration: Sequence[Mapping[str, NDArray[Any]]] = ()


PRECISIONS: tuple[Precision, ...] = get_args(Precision)

Pass: TypeAlias = Callable[["onnx.ModelProto", PassContext], PassResult]
_Made: TypeAlias = "tuple[onnx.ModelProto, tuple[PassRecord, ...]]"


def prune_last_layer(model: onnx.ModelProto, _context: PassContext) -> PassResult:
    """Compute the last layer for the one token the head reads."""
    from crossrank.export.passes.prune import last_layer

    return last_layer.prune_last_layer(model)


def fuse_for_cpu(model: onnx.ModelProto, context: PassContext) -> PassResult:
    """Fuse operators in the way that is fastest on the CPU provider."""
    from crossrank.export.passes.fuse import fusions

    return fusions.fuse(model, architecture=context.architecture, provider="cpu")


def fuse_for_cuda(model: onnx.ModelProto, context: PassContext) -> PassResult:
    """Fuse operators in the way that is fastest on the CUDA provider."""
    from crossrank.export.passes.fuse import fusions

    return fusions.fuse(model, architecture=context.architecture, provider="cuda")


def quantize(model: onnx.ModelProto, context: PassContext) -> PassResult:
    """Quantize products and embedding tables to int8."""
    from crossrank.export.passes.int8.quantize import quantize_int8

    return quantize_int8(model, calibration=context.calibration)


def pack(model: onnx.ModelProto, _context: PassContext) -> PassResult:
    """Let pairs of any lengths share a packed batch without padding."""
    from crossrank.export.passes.pack.packed_batches import pack_batches

    return pack_batches(model)


def convert_to_fp16(model: onnx.ModelProto, context: PassContext) -> PassResult:
    """Convert weights and activations to float16 where they fit its range; inputs and outputs keep their types."""
    from crossrank.export.passes.fp16.audit import audit_for_float16
    from crossrank.export.passes.fp16.to_fp16 import to_fp16

    audit = audit_for_float16(model, context.calibration)
    result = to_fp16(model, keep_fp32=audit.keep)
    record = result.record.model_copy(update={"detail": f"{result.record.detail}; {audit.detail}"})
    return PassResult(result.model, record)


def share_beginning(model: onnx.ModelProto, _context: PassContext) -> PassResult:
    """Let a decoder's graph take the keys and values of a beginning that many pairs share."""
    from crossrank.export.decoder import share_beginning

    return share_beginning.share_beginning(model)


@dataclass(frozen=True)
class PassList:
    """How the graph of one precision is made from the float32 export, and where it runs.

    Attributes:
        precision: precision of the result.
        providers: execution providers that the graph is made for.
        passes: in the order they run.
        batching: which pairs may share a batch before verification: all, padded ("padded"), or none ("single", which
            verification raises if it proves that pairs of one length, or of any, get the scores they get alone).
    """

    precision: Precision
    providers: tuple[Provider, ...]
    passes: tuple[Pass, ...]
    batching: Batching = "padded"


PASS_LISTS: Mapping[Precision, PassList] = {
    "fp32": PassList("fp32", ("cpu", "cuda"), (prune_last_layer, fuse_for_cpu)),
    # The graph has no mask, and without calibration its scales depend on the batch: one pair until verification.
    "int8": PassList("int8", ("cpu",), (prune_last_layer, fuse_for_cpu, quantize, pack), batching="single"),
    "fp16": PassList("fp16", ("cuda",), (prune_last_layer, fuse_for_cuda, convert_to_fp16)),
}

DECODER_PASS_LISTS: Mapping[Precision, PassList] = {
    "fp32": PassList("fp32", ("cpu",), (share_beginning,)),
    "int8": PassList("int8", ("cpu",), (quantize, share_beginning), batching="single"),
}
"""Of decoders, whose graphs are written fused, and with the last layer for one token."""

_NO_FP16 = "fp16 graphs are for CUDA, and the engine runs decoders on the CPU alone so far"


def possible_precisions(
    checkpoint: Checkpoint, wanted: tuple[Precision, ...], exporter: Exporter | None
) -> tuple[tuple[Precision, ...], dict[Precision, str]]:
    """The precisions that can be made of a checkpoint, and why the others cannot.

    Raises:
        InvalidInputError: an exporter is named for a checkpoint that needs none.
        UnsupportedCheckpointError: none of those wanted can be made.
    """
    if not checkpoint.causal:
        return wanted, {}
    if exporter is not None:
        raise InvalidInputError(
            f"exporter={exporter!r} was given, but {checkpoint.source.id} is a decoder, whose graph crossrank writes "
            f"itself; leave it out"
        )
    possible = tuple(precision for precision in wanted if precision in DECODER_PASS_LISTS)
    if not possible:
        raise UnsupportedCheckpointError(f"{checkpoint.source.id} is a decoder: {_NO_FP16}; ask for int8 or fp32")
    return possible, {precision: _NO_FP16 for precision in wanted if precision not in possible}


def checked_precisions(precisions: Iterable[str]) -> tuple[Precision, ...]:
    """Distinct precisions in the order an artifact lists them.

    Raises:
        InvalidInputError: no precision is given, or an unknown one.
    """
    given = tuple(precisions)
    unknown = [precision for precision in given if precision not in PRECISIONS]
    if unknown or not given:
        raise InvalidInputError(f"precisions {list(given)}: one or more of {', '.join(PRECISIONS)} expected")
    return tuple(precision for precision in PASS_LISTS if precision in given)


class PassRunner:
    """Runs pass lists on one exported graph; passes at the start of several lists run once."""

    def __init__(self, base: onnx.ModelProto, context: PassContext) -> None:
        """Take the exported graph.

        Args:
            base: the exported graph.
            context: what the passes may need besides the graph.
        """
        self._context = context
        self._made: dict[tuple[Pass, ...], _Made] = {(): (base, ())}

    def run(self, pass_list: PassList, *, keep_for: Iterable[PassList] = ()) -> _Made:
        """Run the passes of a list.

        Args:
            pass_list: what to make.
            keep_for: lists to run later; only graphs that they can start from stay in memory.

        Returns:
            The graph, and the record of each pass in order.

        Raises:
            PassFailedError: the pass that gives the graph its precision failed; the message names both.
        """
        start = _longest_prefix(pass_list, self._made)
        model, records = self._made[start]
        prefixes = [pass_list.passes[:length] for length in range(len(start), len(pass_list.passes) + 1)]
        needed = {_longest_prefix(other, [*self._made, *prefixes]) for other in keep_for}
        self._made = {passes: made for passes, made in self._made.items() if passes in needed}
        for prefix in prefixes[1:]:
            result = _run_pass(prefix[-1], model, self._context, pass_list.precision)
            model, records = result.model, (*records, result.record)
            del result
            release(weight_bytes(model))
            if prefix in needed:
                self._made[prefix] = (model, records)
        return model, records


class PassFailedError(ExportError):
    """The pass that gives a graph its precision cannot follow the graph, so that precision cannot be made."""


_GIVE_PRECISION = frozenset({"quantize", "convert_to_fp16"})
"""Passes without which a graph would not be what its precision says; every other one may leave a graph alone."""


def _run_pass(run: Pass, model: onnx.ModelProto, context: PassContext, precision: Precision) -> PassResult:
    """Run a pass; one that cannot follow the graph, or would make an invalid one, leaves it alone and says so."""
    name = getattr(run, "__name__", repr(run))
    try:
        result = run(model, context)
        if result.record.changed:
            why = _refused_by_onnxruntime(result.model)
            if why is None or _refused_by_onnxruntime(model) is not None:
                return result
        elif name not in _GIVE_PRECISION:
            return result
        else:
            why = f"it changed nothing ({result.record.detail})"
        cause: Exception | None = None
    except (CrossrankError, MemoryError, OSError):
        raise
    except Exception as error:
        # onnx's and onnxruntime's errors have no common base but Exception.
        why, cause = f"{type(error).__name__}: {error}", error
    if name in _GIVE_PRECISION:
        raise PassFailedError(
            f"the pass {name} failed while the {precision} graph was made: {why}; the graph is of a form the pass was "
            f"not written for: please report it, and leave {precision} out meanwhile (--precision)"
        ) from cause
    detail = f"left alone: the pass cannot follow this graph ({why})"[:_LONGEST_DETAIL]
    return PassResult(model, PassRecord(name=name, changed=False, detail=detail))


_LONGEST_DETAIL = 400


def _refused_by_onnxruntime(model: onnx.ModelProto) -> str | None:
    """Why onnxruntime does not load a graph; None where it does. Weights are left out, which no check reads."""
    import onnxruntime

    from crossrank.export.graph.tools import skeleton

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        content = skeleton(model).SerializeToString()
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Here too nothing narrower than Exception is common to what is raised.
        return f"onnxruntime does not load the result: {error}"
    return None


def _longest_prefix(pass_list: PassList, made: Iterable[tuple[Pass, ...]]) -> tuple[Pass, ...]:
    """The longest prefix of a list's passes among those given."""
    return max((passes for passes in made if pass_list.passes[: len(passes)] == passes), key=len)
