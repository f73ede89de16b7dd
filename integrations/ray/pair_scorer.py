"""Scores of a dataset's pairs by a pool of actors: Ray Data keeps the blocks, the actors and the retries."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from crossrank.engine.config import RerankerConfig
from crossrank.engine.text.documents import TEXT_FIELD
from crossrank.errors import InvalidInputError
from crossrank.integrations.ray.assigned import assigned
from crossrank.reranker import Reranker
from crossrank.resolve import absolute_model

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from crossrank.engine.text.windows import LongDocuments
    from crossrank.models.manifest import Activation, PrecisionChoice

    Batch: TypeAlias = Mapping[str, npt.NDArray[Any]] | pd.DataFrame | pa.Table


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairScorerOptions:
    """What `PairScorer` scores, and with which model. Checked where it is made, which is before any actor starts.

    Attributes:
        model: as for `Reranker`; a folder is kept as an absolute path, and must be at that path on every node.
        query: the column with the query, a string.
        document: the column with the document, a string or a struct with a 'text' field.
        score: the column to add, float32; there must be none of that name.
        precision: as for `Reranker`, likewise the others.
        max_length: tokens of a pair.
        activation: what turns a logit into a score.
        max_batch_tokens: padded tokens of one run, whatever the rows of a batch of the dataset.
        long_documents: 'truncate', 'windows' or `Windows`.
        revision: of a hub repository.
        file: a ready ONNX file of the model.
        trust_remote_code: allow code that comes with a checkpoint to run during its export.
    """

    model: str | Path = "default"
    query: str = "query"
    document: str = "document"
    score: str = "score"
    precision: PrecisionChoice = "auto"
    max_length: int | None = None
    activation: Activation | None = None
    max_batch_tokens: int | None = None
    long_documents: LongDocuments = "truncate"
    revision: str | None = None
    file: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            InvalidInputError: an option is outside its range.
        """
        object.__setattr__(self, "model", absolute_model(self.model))
        RerankerConfig(
            "",
            precision=self.precision,
            max_length=self.max_length,
            activation=self.activation,
            max_batch_tokens=self.max_batch_tokens,
            long_documents=self.long_documents,
        )
        if self.score in {self.query, self.document}:
            raise InvalidInputError(
                f"score={self.score!r}: another name than that of the column it is made of expected"
            )


class PairScorer:
    """Scores the pairs of a dataset's batches, for `Dataset.map_batches` with a pool of actors.

    Each actor makes one model, with a thread for each CPU that Ray assigned to it (`num_cpus=`), on CUDA if it has GPUs
    (`num_gpus=`; not run on a GPU yet). Within a batch of the dataset, pairs are sorted by length and run in batches of
    tokens; a batch of 1000 rows or more leaves the planner room. A checkpoint is exported once on each node: the
    actors share its cache.

    Example:
        >>> import ray
        >>> from crossrank.integrations.ray import PairScorer, PairScorerOptions
        >>> scored = ray.data.read_parquet("pairs.parquet").map_batches(  # doctest: +SKIP
        ...     PairScorer,
        ...     fn_constructor_args=[PairScorerOptions(query="question", document="passage")],
        ...     compute=ray.data.ActorPoolStrategy(size=4),
        ...     num_cpus=2,
        ...     batch_size=2048,
        ... )
    """

    def __init__(self, options: PairScorerOptions = PairScorerOptions()) -> None:
        """Find the model and load it.

        Args:
            options: what to score, and with which model.

        Raises:
            CrossrankError: as `Reranker`.
        """
        share = assigned()
        self._options = options
        self._reranker = Reranker(
            options.model,
            provider=share.provider(),
            precision=options.precision,
            threads=share.threads,
            max_length=options.max_length,
            activation=options.activation,
            max_batch_tokens=options.max_batch_tokens,
            long_documents=options.long_documents,
            devices=range(share.gpus) if share.gpus else None,
            revision=options.revision,
            file=options.file,
            trust_remote_code=options.trust_remote_code,
        )

    def __call__(self, batch: Batch) -> Batch:
        """A batch with the scores of its rows as a further column; the batch given is not changed.

        Args:
            batch: in any of Ray Data's formats: NumPy arrays by column, a pandas DataFrame or a pyarrow Table.

        Returns:
            In the same format, with the rows in the same order; scores are float32.

        Raises:
            InvalidInputError: a column is missing or there already, or a value is null or no text; the message has
                the row.
            InferenceError: onnxruntime failed.
        """
        options = self._options
        columns = _columns(batch)
        missing = [name for name in (options.query, options.document) if name not in columns]
        if missing:
            raise InvalidInputError(f"no column {', '.join(map(repr, missing))}; the dataset has {columns}")
        if options.score in columns:
            raise InvalidInputError(
                f"the dataset has a column {options.score!r} already: name another with PairScorerOptions(score=...)"
            )
        queries, documents = _values(batch, options.query), _values(batch, options.document)
        for row, (query, document) in enumerate(zip(queries, documents, strict=True)):
            text = document.get(TEXT_FIELD) if isinstance(document, Mapping) else document
            if not isinstance(query, str):
                wrong = f"{options.query}={query!r:.100}, a string expected"
            elif not isinstance(text, str):
                wrong = (
                    f"{options.document}={document!r:.100}, a string expected, or a struct with one as {TEXT_FIELD!r}"
                )
            else:
                continue
            # Not the representation of one mapping, which would leave out all but four columns.
            whole = ", ".join(f"{column!r}: {reprlib.repr(_values(batch, column)[row])}" for column in columns)
            raise InvalidInputError(
                f"row {row} of a batch: {wrong}; the row is {{{whole}}}. Leave such rows out with Dataset.filter, or "
                "fill them"
            )
        return _with_column(batch, options.score, self._reranker.score_pairs(zip(queries, documents, strict=True)))


def _columns(batch: Any) -> list[str]:
    return list(getattr(batch, "column_names", batch))


def _values(batch: Any, column: str) -> list[Any]:
    values = batch[column]
    return list(values.to_pylist() if hasattr(values, "to_pylist") else values.tolist())


def _with_column(batch: Any, name: str, values: npt.NDArray[np.float32]) -> Any:
    if isinstance(batch, Mapping):
        return {**batch, name: values}
    if hasattr(batch, "append_column"):
        import pyarrow as pa

        return batch.append_column(name, pa.array(values))
    return batch.assign(**{name: values})
