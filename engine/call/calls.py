"""The kinds of calls, each made of the arguments of a public method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.call.arguments import Arguments, RankArguments
from crossrank.engine.call.call_steps import Call
from crossrank.engine.call.drivers import Encode
from crossrank.engine.call.encoded_candidates import prepared_pieces
from crossrank.engine.call.ranking import first_stage_order
from crossrank.engine.schedule.encoding_pieces import Piece
from crossrank.engine.text.documents import as_list, checked_top_k, document_texts, pair_texts, query_text
from crossrank.engine.text.prepared import PreparedDocuments
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from crossrank.engine.call.arguments import Caller
    from crossrank.engine.call.candidates import Candidates
    from crossrank.engine.call.drivers import Steps
    from crossrank.engine.call.model import ScoringModel
    from crossrank.engine.schedule.encoding_pieces import Pieces
    from crossrank.engine.text.documents import Document
    from crossrank.engine.text.prepared import Documents


_RANKING_SECONDS = 3e-6
"""To put one document into a ranking, scored or not: 3.1 ms for 1000 of them were measured."""


def rank_call(
    caller: Caller,
    query: str,
    documents: Documents,
    *,
    top_k: int | None,
    return_documents: bool,
    first_stage_scores: Sequence[float] | npt.NDArray[np.floating] | None,
    instruction: str | None = None,
    early: bool = False,
) -> Call[RankArguments]:
    """A call that asks for a ranking; for the arguments see `Call` and `ArtifactReranker.rank`."""
    items, texts = _items(documents)

    def check() -> RankArguments:
        count = len(items)
        return RankArguments(
            candidates=_candidates(caller.model, query, texts, instruction),
            # A mistake shows without a deadline, too.
            order=np.arange(count) if first_stage_scores is None else first_stage_order(first_stage_scores, count),
            seconds_after=count * _RANKING_SECONDS,
            items=items,
            top_k=count if top_k is None else checked_top_k(top_k, count),
            return_documents=return_documents,
        )

    return Call(caller, check, caller.model.finder.size(texts, (query,), instruction=instruction), early=early)


def score_call(caller: Caller, query: str, documents: Documents, instruction: str | None = None) -> Call[Arguments]:
    """A call that asks for the scores of one query's documents."""
    items, texts = _items(documents)

    def check() -> Arguments:
        candidates = _candidates(caller.model, query, texts, instruction)
        return Arguments(candidates=candidates, order=np.arange(len(items)))

    return Call(caller, check, caller.model.finder.size(texts, (query,), instruction=instruction))


def pairs_call(
    caller: Caller, pairs: Iterable[tuple[str, Document]], instruction: str | None = None
) -> Call[Arguments]:
    """A call that asks for the scores of (query, document) pairs.

    Raises:
        InvalidInputError: an item is no pair of a string and a document.
    """
    queries, texts = pair_texts(pairs)
    indices = np.arange(len(texts))

    def check() -> Arguments:
        candidates = caller.model.finder.of_texts(queries, indices, texts, instruction)
        return Arguments(candidates=candidates, order=indices)

    return Call(caller, check, caller.model.finder.size(texts, queries, instruction=instruction))


def many_call(
    caller: Caller,
    queries: Iterable[str],
    documents_per_query: Iterable[Iterable[Document]],
    instruction: str | None = None,
) -> tuple[Call[Arguments], list[int]]:
    """A call that asks for the scores of several queries' own documents; also how many each query has.

    Raises:
        InvalidInputError: the lists differ in length, or an item is unusable.
    """
    queries = as_list(queries, "queries", "strings")
    queries = [query_text(query, f"queries[{index}]") for index, query in enumerate(queries)]
    lists = as_list(documents_per_query, "documents_per_query", "lists of documents")
    if len(queries) != len(lists):
        raise InvalidInputError(f"{len(queries)} queries, {len(lists)} lists of documents: as many of each expected")
    names = [f"documents_per_query[{index}]" for index in range(len(lists))]
    texts = [document_texts(as_list(item, name), name) for item, name in zip(lists, names, strict=True)]
    counts = [len(item) for item in texts]
    query_of = np.repeat(np.arange(len(queries)), counts)
    flat = [text for item in texts for text in item]

    def check() -> Arguments:
        candidates = caller.model.finder.of_texts(queries, query_of, flat, instruction)
        return Arguments(candidates=candidates, order=np.arange(len(flat)))

    size = caller.model.finder.size(flat, [queries[index] for index in query_of.tolist()], instruction=instruction)
    return Call(caller, check, size), counts


def indices_call(
    caller: Caller,
    query: str,
    documents: PreparedDocuments,
    indices: npt.NDArray[np.int64],
    max_length: int | None,
) -> Call[Arguments]:
    """A call that asks for the scores of some prepared documents; for the arguments see `of_prepared`."""
    indices = _places(indices, len(documents))

    def check() -> Arguments:
        candidates = caller.model.finder.of_prepared(
            query_text(query), documents, indices=indices, max_length=max_length
        )
        return Arguments(candidates=candidates, order=np.arange(len(indices)))

    return Call(caller, check, caller.model.finder.size(documents, (query,), indices))


def _places(indices: object, count: int) -> npt.NDArray[np.int64]:
    found = np.asarray(indices)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise InvalidInputError(
            f"indices of type {found.dtype} and shape {found.shape}: whole numbers in a row expected"
        )
    beyond = found[(found < 0) | (found >= count)]
    if beyond.size:
        raise InvalidInputError(f"indices has {beyond[0]}: the {count} documents are 0 to {count - 1}")
    return found.astype(np.int64)


def repeated_call(caller: Caller, query: str, text: str, times: int) -> Call[Arguments]:
    """A call that scores one pair many times: for warming up."""

    def check() -> Arguments:
        return Arguments(candidates=caller.model.finder.repeated(query, text, times), order=np.arange(times))

    return Call(caller, check, caller.model.finder.size([text] * times, (query,)))


def prepare_steps(caller: Caller, documents: Documents) -> Steps[PreparedDocuments]:
    """Encode documents to score them against several queries.

    Raises:
        InvalidInputError: a document is no text, or was prepared for another tokenizer or length limit; or the longer
            of two texts is cut.
    """
    if caller.model.finder.encoder.longest_first:
        raise InvalidInputError(
            "prepare() with truncation='longest_first': how much of a document is read then depends on its query; give "
            "the documents themselves, or a reranker with truncation='only_second'"
        )
    if isinstance(documents, PreparedDocuments):
        documents.check_key(caller.model.finder.documents_key)
        return documents
    items, speed = tuple(as_list(documents)), caller.scheduler.encoders.speed
    size = caller.model.finder.size(items, ())
    first = Piece(speed.seconds(size.documents, size.characters))

    def pieces() -> Pieces[PreparedDocuments]:
        yield first
        return (yield from prepared_pieces(caller.model.finder, items, document_texts(items), speed))

    prepared: PreparedDocuments = yield Encode(pieces(), caller.limit.terms(), 0.0, first)
    return prepared


def _items(documents: Documents) -> tuple[tuple[Document, ...], tuple[Document, ...] | PreparedDocuments]:
    """The caller's documents as they are now, so that a thread may read them; twice, or prepared."""
    if isinstance(documents, PreparedDocuments):
        return documents.items, documents
    items = tuple(as_list(documents))
    return items, items


def _candidates(
    model: ScoringModel,
    query: str,
    documents: tuple[Document, ...] | PreparedDocuments,
    instruction: str | None,
) -> Candidates:
    query = query_text(query)
    if isinstance(documents, PreparedDocuments):
        return model.finder.of_prepared(query, documents, instruction=instruction)
    zeros = np.zeros(len(documents), dtype=np.int64)
    return model.finder.of_texts([query], zeros, document_texts(documents), instruction)
