"""The configuration of a reranker: what a user chose, validated, frozen and picklable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, get_args

from crossrank.engine.argument_checks import milliseconds, whole_number
from crossrank.engine.text.windows import LongDocuments, as_windows
from crossrank.errors import InvalidInputError
from crossrank.models.manifest import Activation, Precision, PrecisionChoice, Provider, ProviderChoice

Truncation = Literal["only_second", "longest_first"]

DEFAULT_BATCH_TOKENS: dict[Provider, int] = {"cpu": 512, "cuda": 16384}
"""Token budget of one run. On the CPU larger runs only leave the caches (docs/benchmarks.md); the other is an estimate,
not run on a GPU yet."""

_WHOLE_NUMBERS = (
    "threads",
    "max_length",
    "max_batch_tokens",
    "max_queue_tokens",
    "score_cache_bytes",
    "gpu_memory_limit",
)


_Parameters = ParamSpec("_Parameters")


def with_parameters_of(
    constructor: Callable[Concatenate[Any, _Parameters], None],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, _Parameters], None]]:
    """Declare that a constructor takes what another one takes and hands it on: to type checkers and to `help`."""

    def declare(own: Callable[..., None]) -> Callable[Concatenate[Any, _Parameters], None]:
        own.__signature__ = inspect.signature(constructor)  # type: ignore[attr-defined]
        return own

    return declare


@dataclass(frozen=True)
class RerankerConfig:
    """What to load and how to run it.

    Attributes:
        artifact: the artifact's folder, kept as an absolute path; "" where it has yet to be found.
        provider: execution provider; 'auto' takes CUDA where it works, else the CPU.
        precision: 'auto' takes int8 on the CPU where the artifact has it, fp16 on CUDA.
        threads: processor threads for scoring; None takes the cores really available.
        max_length: tokens of a pair, at most the model's; None takes the model's.
        activation: what turns a logit into a score; None takes the artifact's.
        max_batch_tokens: padded tokens in one run at most; a longer pair runs alone. None takes the provider's default.
        max_queue_tokens: tokens of all callers that may wait at most; None sets no bound for synchronous callers, and
            ten million for asynchronous ones. Those are also refused where they would wait for more than four seconds.
        max_wait_ms: how long an idle engine waits for more pairs to share its first run, where runs may be shared; not
            while a call with a deadline waits.
        truncation: what is cut of a pair that is too long, in the tokenizers library's words: 'only_second' cuts the
            document, 'longest_first' whichever of query and document is longer, as sentence-transformers does.
        long_documents: 'truncate' reads the beginning of documents that are too long, 'windows' all of them, window by
            window; `Windows` sets their size, stride, number and aggregation.
        score_cache_bytes: bytes for scores that are kept, to be given again for the same query and text; None keeps
            none.
        devices: numbers of the GPUs to share the work; None takes the first. Only with CUDA.
        gpu_memory_limit: bytes onnxruntime's arena may take on each GPU; None sets no limit. Only with CUDA.
        cuda_graphs: whether runs of a shape are captured once and replayed. Only with CUDA.
        instruction: what documents are judged by, for models that take an instruction; None for the model's own.
    """

    artifact: str | Path
    _: KW_ONLY
    provider: ProviderChoice = "auto"
    precision: PrecisionChoice = "auto"
    threads: int | None = None
    max_length: int | None = None
    activation: Activation | None = None
    max_batch_tokens: int | None = None
    max_queue_tokens: int | None = None
    max_wait_ms: float = 0.0
    truncation: Truncation = "only_second"
    long_documents: LongDocuments = "truncate"
    score_cache_bytes: int | None = None
    devices: Sequence[int] | None = None
    gpu_memory_limit: int | None = None
    cuda_graphs: bool = True
    instruction: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that no machine or model can serve.

        Raises:
            InvalidInputError: an option is outside its range.
        """
        if self.artifact != "":
            object.__setattr__(self, "artifact", Path(self.artifact).absolute())
        _one_of("provider", self.provider, get_args(ProviderChoice))
        _one_of("precision", self.precision, get_args(PrecisionChoice))
        if self.activation is not None:
            _one_of("activation", self.activation, get_args(Activation))
        _one_of("truncation", self.truncation, get_args(Truncation))
        if as_windows(self.long_documents) is not None and self.truncation == "longest_first":
            raise InvalidInputError(
                f"truncation='longest_first' with long_documents={self.long_documents!r}: windows read whole "
                "documents, so that nothing is left to cut; leave out one of the two"
            )
        for name in _WHOLE_NUMBERS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(name, value, 1, otherwise=", or None"))
        object.__setattr__(self, "max_wait_ms", milliseconds("max_wait_ms", self.max_wait_ms))
        object.__setattr__(self, "devices", _device_numbers(self.devices))
        if not isinstance(self.cuda_graphs, bool):
            raise InvalidInputError(f"cuda_graphs={self.cuda_graphs!r}: True or False expected")
        if self.provider == "cpu" and (self.devices is not None or self.gpu_memory_limit is not None):
            raise InvalidInputError(
                f"devices={self.devices!r}, gpu_memory_limit={self.gpu_memory_limit!r} with provider='cpu': both are "
                "about GPUs; leave them out, or ask for provider='cuda' or 'auto'"
            )


def _device_numbers(given: object) -> tuple[int, ...] | None:
    """GPU numbers as a tuple of Python's integers."""
    if given is None:
        return None
    numbers = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else ()
    whole = [int(number) for number in numbers if not isinstance(number, bool) and isinstance(number, Integral)]
    if not numbers or len(whole) != len(numbers) or min(whole) < 0 or len(set(whole)) != len(whole):
        raise InvalidInputError(
            f"devices={given!r}: different whole numbers from 0 on expected, such as [0, 1], or None"
        )
    return tuple(whole)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidInputError(f"{name}={value!r}: one of {', '.join(allowed)} expected")


__all__ = [
    "DEFAULT_BATCH_TOKENS",
    "Activation",
    "Precision",
    "PrecisionChoice",
    "Provider",
    "ProviderChoice",
    "RerankerConfig",
    "Truncation",
    "with_parameters_of",
]
