"""An onnxruntime session of one graph: its options, checks of its inputs and outputs, and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.runtime.onnxruntime_build import load_onnxruntime
from crossrank.engine.runtime.providers import provider_name
from crossrank.errors import ArtifactError, InferenceError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from crossrank.engine.text.encoded import TokenArrays
    from crossrank.models.manifest import Manifest, Provider

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_INTEGER_TYPES: dict[str, type[np.integer[Any]]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
# The fused kernel is slower on CPU than Add + LayerNormalization, see docs/graphs.md.
_DISABLED_OPTIMIZERS = {"cpu": ["SkipLayerNormFusion"], "cuda": []}
NO_NUMBER_CAUSES = (
    "in an fp16 graph this is an overflow: use precision='fp32'; in an fp32 graph the weights of the checkpoint may "
    "hold NaN: look at them and export it again"
)


class GraphSession:
    """A graph loaded on the CPU. Several threads may run it at once."""

    def __init__(self, path: Path, manifest: Manifest, *, threads: int, spin: bool) -> None:
        """Load a graph.

        Args:
            path: the ONNX file, already verified.
            manifest: of its artifact.
            threads: threads inside an operator.
            spin: whether idle threads of a run spin until the next operator (less latency, more CPU time).

        Raises:
            ArtifactError: onnxruntime refuses the graph, or its inputs or output are not a reranker's.
        """
        self._session = open_session(path, provider="cpu", threads=threads, spin=spin)
        self._dtypes = checked_inputs(self._session, path)
        self._outputs = checked_output(self._session, path, manifest.num_labels)

    def run(self, arrays: TokenArrays) -> npt.NDArray[np.float32]:
        """Score one batch.

        Args:
            arrays: int64 (b, length).

        Returns:
            float32 (b, labels).

        Raises:
            InferenceError: onnxruntime failed, or returned NaN or infinity.
        """
        feeds = {name: getattr(arrays, name).astype(dtype, copy=False) for name, dtype in self._dtypes.items()}
        try:
            (logits,) = self._session.run(self._outputs, feeds)
        except Exception as error:
            raise run_failed(arrays, error) from error
        return checked_logits(logits, arrays)


def open_session(
    path: Path,
    *,
    provider: Provider,
    threads: int,
    spin: bool,
    provider_options: Mapping[str, str] | None = None,
    profile: Path | None = None,
) -> Any:
    """Open an onnxruntime session that runs on one provider and never falls back to another.

    Args:
        path: the ONNX file, already verified.
        provider: execution provider, already probed.
        threads: threads inside an operator.
        spin: whether idle threads of a run wait actively for the next operator.
        provider_options: options of the provider, as onnxruntime names them.
        profile: prefix of the file to which onnxruntime writes a profile of the runs; the session then also records
            which provider runs each node. None turns both off.

    Raises:
        ArtifactError: onnxruntime refuses the graph.
        ProviderError: onnxruntime placed it on another provider.
    """
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Shapes change from run to run, so memory patterns, which are stored per shape, would hardly ever be reused.
    options.enable_mem_pattern = False
    # Errors arrive as exceptions; printing them as well is the application's choice.
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    name = provider_name(provider)
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[(name, dict(provider_options or {}))],
            disabled_optimizers=_DISABLED_OPTIMIZERS[provider],
            enable_fallback=0,  # otherwise it prints a message and tries the CPU
        )
    except Exception as error:
        raise ArtifactError(f"onnxruntime {onnxruntime.__version__} cannot load {path}: {error}") from error
    session.disable_fallback()
    if session.get_providers()[0] != name:
        raise ProviderError(f"onnxruntime put {path} on {session.get_providers()[0]}; {name} expected")
    return session


def run_failed(arrays: TokenArrays, error: Exception) -> InferenceError:
    """The error to raise for a run that failed in onnxruntime, with the shape of the batch."""
    rows, length = arrays.input_ids.shape
    return InferenceError(f"onnxruntime failed on {rows} pairs x {length} tokens: {error}")


class NoNumberError(InferenceError):
    """A run gave outputs that are no numbers, of some of its pairs at least.

    Attributes:
        logits: all outputs of the run, float32 (pairs, labels).
    """

    def __init__(self, message: str, logits: npt.NDArray[np.float32]) -> None:
        super().__init__(message)
        self.logits = logits


def checked_logits(logits: npt.NDArray[Any], arrays: TokenArrays) -> npt.NDArray[np.float32]:
    """Outputs of a run as float32.

    Raises:
        NoNumberError: an output is NaN or infinite.
    """
    logits = np.asarray(logits, dtype=np.float32)
    if not np.isfinite(logits).all():
        rows, length = arrays.input_ids.shape
        kind = "NaN" if np.isnan(logits).any() else "infinity"
        raise NoNumberError(
            f"the model gave a score that is no number ({kind}) for a batch of {rows} pairs x {length} tokens; "
            f"{NO_NUMBER_CAUSES}",
            logits,
        )
    return logits


def checked_inputs(session: Any, path: Path) -> dict[str, type[np.integer[Any]]]:
    """The graph's inputs and their integer types.

    Raises:
        ArtifactError: the inputs are not those of a reranker.
    """
    dtypes: dict[str, type[np.integer[Any]]] = {}
    for item in session.get_inputs():
        if item.name not in INPUTS or item.type not in _INTEGER_TYPES:
            raise ArtifactError(
                f"graph {path} takes {item.name!r} of {item.type}; expected are {', '.join(INPUTS)} as integers"
            )
        dtypes[item.name] = _INTEGER_TYPES[item.type]
    if "input_ids" not in dtypes:
        raise ArtifactError(f"graph {path} takes no input_ids; it is no reranker")
    return dtypes


def checked_output(session: Any, path: Path, labels: int) -> list[str]:
    """The name of the graph's output, as a list.

    Raises:
        ArtifactError: the output is not that of a reranker.
    """
    outputs = session.get_outputs()
    if len(outputs) != 1 or outputs[0].type != "tensor(float)" or len(outputs[0].shape) != 2:  # noqa: PLR2004
        raise ArtifactError(
            f"graph {path} gives {[(item.name, item.type, item.shape) for item in outputs]}; "
            "one float32 output of shape (pairs, labels) expected"
        )
    width = outputs[0].shape[1]
    if isinstance(width, int) and width != labels:
        raise ArtifactError(f"graph {path} gives {width} labels, the manifest says {labels}")
    return [outputs[0].name]
