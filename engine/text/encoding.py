"""Texts to token arrays: each distinct query is encoded once, of documents what is used, pairs assembled as arrays.

The result equals `tokenizer([query], [document], truncation="only_second")` of transformers token for token wherever
the query leaves room for at least one document token. (The form without lists is no pair where the document is empty:
transformers then encodes the query alone.) Where it does not (transformers raises there), the query is cut to
half of the tokens that the special tokens leave.

In a template instruction and labels are never cut: a query that leaves a document fewer than `MIN_TEXT_TOKENS` is cut
to half of what they leave, and where they leave no such minimum of both, the length or the instruction is refused
(`template_room.py`).
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.text.encoded import EncodedDocuments, EncodedPairs, EncodedQuery, TokenArrays
from crossrank.engine.text.reading import TextReader
from crossrank.engine.text.template import PairTemplate, TemplateTexts, tokens_of
from crossrank.engine.text.template_room import TemplateRoom
from crossrank.errors import ArtifactError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from tokenizers import Tokenizer

    from crossrank.models.manifest import Template


class PairEncoder:
    """Encodes queries and documents with a model's tokenizer, and assembles pairs.

    Safe to use from several threads: the tokenizer is only read.

    Attributes:
        template: special tokens and segment ids around query and document.
        max_length: tokens of a pair at most, special tokens included.
        text_tokens: those that query and document share.
        longest_first: whether whichever of query and document is longer is cut, which `longest_first.py` does, pair by
            pair; else the document alone.
        max_query_tokens: those that a query may have before it is cut whatever the document: it must leave room for one
            document token, unless the longer text is cut; in a template, whose text before the query counts, for
            `MIN_TEXT_TOKENS` of them.
        cut_query_tokens: those that a longer query is cut to: half of the text tokens; in a template what stands around
            it and half of the rest, with the model's own instruction.
        document_label_tokens: those that a template puts before each document's text; 0 without one.
        characters_read: as `TextReader.characters_read`.
        pad_token_id: id that fills the rows of a batch.
        texts: what stands around queries and documents.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_length: int,
        pad_token_id: int,
        template: Template | None = None,
        causal: bool = False,
        longest_first: bool = False,
        reader: TextReader | None = None,
    ) -> None:
        """Read the pair layout off a tokenizer.

        Args:
            tokenizer: with truncation and padding off.
            max_length: tokens of a pair at most, special tokens included.
            pad_token_id: id that fills the rows of a batch.
            template: the text around query and document; None for the layout of the tokenizer's post-processor.
            causal: whether segment ids say where the document begins, as a shared beginning needs it.
            longest_first: cut whichever of query and document is longer.
            reader: of the same tokenizer, where there is one.

        Raises:
            InvalidInputError: `max_length` leaves no room for a query and a document token, or in a template for
                `MIN_TEXT_TOKENS` of each.
        """
        self._tokenizer = tokenizer
        self._reader = reader or TextReader(tokenizer)
        self._stated = template
        self._causal = causal
        self.texts = TemplateTexts(tokenizer, template)
        if template is not None:
            self.template = PairTemplate.of_texts(tokenizer, template)
        else:
            own = PairTemplate.of(tokenizer)
            self.template = own.marking_documents() if causal else own
        self.max_length = max_length
        self.pad_token_id = pad_token_id
        self.longest_first = longest_first
        self.text_tokens = max_length - self.template.special_tokens
        if self.text_tokens < 2:  # noqa: PLR2004
            raise InvalidInputError(
                f"max_length={max_length}: at least {self.template.special_tokens + 2} expected, for this model's "
                f"{self.template.special_tokens} special tokens, a query and a document"
            )

        self.max_query_tokens = self.text_tokens if longest_first else self.text_tokens - 1
        self.cut_query_tokens = self.text_tokens // 2
        self.characters_read = self._reader.characters_read
        self.document_label_tokens = 0
        self._room: TemplateRoom | None = None
        if template is not None:
            self.document_label_tokens = len(tokens_of(tokenizer, self.texts.before_document))
            tokens = self.text_tokens - self.document_label_tokens
            self._room = TemplateRoom(self._reader, self.texts, max_length, tokens)
            self.max_query_tokens = self._room.max_query_tokens
            self.cut_query_tokens = self._room.cut_query_tokens(None)

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        max_length: int,
        pad_token_id: int,
        template: Template | None = None,
        causal: bool = False,
        longest_first: bool = False,
    ) -> PairEncoder:
        """Read a `tokenizer.json`; for the other arguments see the constructor.

        Raises:
            ArtifactError: the file is no tokenizer this version of `tokenizers` reads, or one that suits no reranker.
            InvalidInputError: as the constructor.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises plain Exception
            raise ArtifactError(f"cannot read the tokenizer {path}: {error}; export the artifact again") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(
            tokenizer,
            max_length=max_length,
            pad_token_id=pad_token_id,
            template=template,
            causal=causal,
            longest_first=longest_first,
        )

    def limited_to(self, max_length: int) -> PairEncoder:
        """An encoder of shorter pairs with the same tokenizer; documents encoded by this one suit it.

        Raises:
            InvalidInputError: `max_length` leaves no room for text, or is longer than this encoder's.
        """
        if max_length > self.max_length:
            raise InvalidInputError(f"max_length={max_length}: {self.max_length} tokens at most expected here")
        return PairEncoder(
            self._tokenizer,
            max_length=max_length,
            pad_token_id=self.pad_token_id,
            template=self._stated,
            causal=self._causal,
            longest_first=self.longest_first,
            reader=self._reader,
        )

    def encode_query(self, query: str, instruction: str | None = None) -> EncodedQuery:
        """Encode one query.

        Args:
            query: the query.
            instruction: for models with a template that takes one; None for the model's own.

        Raises:
            InvalidInputError: as `check_instruction`.
        """
        self.check_instruction(instruction)
        (tokens,) = self._reader.read([self.texts.query(query, instruction)], self.max_query_tokens)
        if tokens.length <= self.max_query_tokens:
            return EncodedQuery(tokens.ids, truncated=False)
        if self.longest_first:
            return EncodedQuery(tokens.ids, truncated=True)
        after = self.texts.after_query
        most = self.cut_query_tokens if self._room is None else self._room.cut_query_tokens(instruction)
        cut = tokens.ids[: most - len(after)]
        return EncodedQuery(np.concatenate([cut, after]) if len(after) else cut, truncated=True)

    def check_instruction(self, instruction: str | None) -> None:
        """Refuse an instruction that this model cannot be given, or that leaves no room for texts.

        Args:
            instruction: None for the model's own.

        Raises:
            InvalidInputError: it is no text, or blank, or the model takes none, or it leaves a query or a document
                fewer than `MIN_TEXT_TOKENS`.
        """
        self.texts.check_instruction(instruction)
        if self._room is not None:
            self._room.cut_query_tokens(instruction)

    def count_tokens(self, text: str, most: int) -> int:
        """Tokens of a text without special tokens, counted up to one more than `most`."""
        (tokens,) = self._reader.read([text], most)
        return tokens.length

    def encode_documents(self, texts: Sequence[str]) -> EncodedDocuments:
        """Encode documents as far as a query could leave room for them."""
        return self._encode_documents(texts, self.text_tokens, spans=False)

    def encode_whole_documents(self, texts: Sequence[str], kept_tokens: int | None) -> EncodedDocuments:
        """Encode documents with more tokens than one pair can hold, and where in the text they are.

        Args:
            texts: the documents.
            kept_tokens: tokens of each that are kept at most; None keeps all.
        """
        return self._encode_documents(texts, kept_tokens, spans=True)

    def _encode_documents(self, texts: Sequence[str], kept_tokens: int | None, *, spans: bool) -> EncodedDocuments:
        before = self.texts.before_document
        tokenized = self._reader.read([before + text for text in texts] if before else texts, kept_tokens, spans=spans)
        if before and spans:
            tokenized = [text._replace(spans=_moved(text.spans, len(before))) for text in tokenized]
        ids = [text.ids for text in tokenized]
        return EncodedDocuments(
            np.concatenate(ids or [np.empty(0, dtype=np.int32)]),
            np.fromiter(accumulate(map(len, ids), initial=0), dtype=np.int64, count=len(ids) + 1),
            np.asarray([text.length for text in tokenized], dtype=np.int64),
            np.concatenate(
                [np.empty((0, 2), dtype=np.int32), *(text.spans for text in tokenized if text.spans is not None)]
            )
            if spans
            else None,
        )

    def pair(
        self, queries: Sequence[EncodedQuery], query_of: npt.NDArray[np.int64], documents: EncodedDocuments
    ) -> EncodedPairs:
        """Pair document `i` with query `query_of[i]` and fix every pair's length.

        Args:
            queries: the distinct queries.
            query_of: int64 (n,), an index into `queries` for each document.
            documents: n documents.

        Raises:
            InvalidInputError: of a document fewer tokens were kept than there is room for.
        """
        query_lengths = np.asarray([len(query.ids) for query in queries], dtype=np.int64)[query_of]
        room = self.text_tokens - query_lengths
        sizes = np.minimum(documents.full_lengths, room)
        documents.check_kept(np.arange(len(documents)), sizes)
        lengths = self.template.special_tokens + query_lengths + sizes
        truncated = documents.full_lengths > room
        return EncodedPairs(tuple(queries), query_of, documents, documents.offsets[:-1], lengths, truncated)

    def assemble(self, pairs: EncodedPairs, indices: npt.NDArray[np.int64], length: int) -> TokenArrays:
        """Lay out some pairs as one padded batch.

        Args:
            pairs: where they come from.
            indices: which of them, int64 (b,).
            length: columns of the batch, at least the longest pair's.
        """
        template = self.template
        shape = (len(indices), length)
        input_ids = np.full(shape, self.pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        token_type_ids = np.zeros(shape, dtype=np.int64)
        for row, index in enumerate(indices):
            query = pairs.queries[pairs.query_of[index]].ids
            total = int(pairs.lengths[index])
            query_start = len(template.prefix)
            middle_start = query_start + len(query)
            document_start = middle_start + len(template.middle)
            suffix_start = total - len(template.suffix)
            begin = int(pairs.begins[index])
            ids, types = input_ids[row], token_type_ids[row]
            ids[:query_start] = template.prefix
            ids[query_start:middle_start] = query
            ids[middle_start:document_start] = template.middle
            ids[document_start:suffix_start] = pairs.documents.ids[begin : begin + suffix_start - document_start]
            ids[suffix_start:total] = template.suffix
            types[:query_start] = template.prefix_types
            types[query_start:middle_start] = template.query_type
            types[middle_start:document_start] = template.middle_types
            types[document_start:suffix_start] = template.document_type
            types[suffix_start:total] = template.suffix_types
            attention_mask[row, :total] = 1
        return TokenArrays(input_ids, attention_mask, token_type_ids)


def _moved(spans: npt.NDArray[np.int32] | None, characters: int) -> npt.NDArray[np.int32] | None:
    """Places in a document's text with something before it, as places in the document."""
    return None if spans is None else np.maximum(spans - np.int32(characters), 0)
