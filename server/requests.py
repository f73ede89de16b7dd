"""Requests of the APIs that are served. What another API does not know is optional; unknown fields are left aside."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    field_validator,
)

from crossrank.server.failures import Refusal


class _AtFirst(FailFast):
    """Pydantic's own has no hash, which types within a union need."""

    __hash__ = object.__hash__


_Item = TypeVar("_Item")
Items: TypeAlias = Annotated[list[_Item], _AtFirst()]
"""A list that is refused at its first bad item: a body has room for millions, and each would be a kilobyte of error."""

_LOWEST_PRIORITY = -4
_NAMED_FIELDS = 10
"""Of `rank_fields` in a message, at most."""
_EXAMPLE_DOCUMENTS = ["Vaccines train immune cells with a harmless piece of a germ.", "Stock prices fell on Monday."]


class _Scored(BaseModel):
    """What every request may say about its time and its scores."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    raw_scores: StrictBool | None = Field(
        default=None, description="Logits instead of scores from 0 to 1; where not given the model's setting counts."
    )
    instruction: StrictStr | None = Field(
        default=None,
        description="What documents are judged by; refused where the model takes none. Where not given the model's "
        "setting counts.",
    )
    deadline_ms: Annotated[float, Field(ge=0)] | None = Field(
        default=None,
        description="Milliseconds from the request on, after which the answer holds what is scored. The header "
        "X-Deadline-Ms says the same; the earlier of the two counts.",
    )
    all_or_nothing: StrictBool = Field(
        default=False, description="Answer 504 at the deadline, or an error for a document without a score."
    )


class VllmOptions(_Scored):
    """What vLLM's requests may say, of rankings and of scores."""

    use_activation: StrictBool | None = Field(
        default=None, description="vLLM's `raw_scores`: false asks for logits. `raw_scores` counts first."
    )
    truncate_prompt_tokens: Annotated[StrictInt, Field(ge=-1)] | None = Field(
        default=None, description="Refused where it is less than the model reads; `max_tokens_per_doc` cuts documents."
    )
    truncation_side: Literal["left", "right"] | None = Field(
        default=None, description="Texts are cut at their end: 'left' is refused."
    )
    max_tokens_per_query: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="Not served: refused where it is neither 0, vLLM's word for no limit, nor null."
    )

    @property
    def raw(self) -> bool | None:
        """Whether logits are asked for; None where the request does not say."""
        if self.raw_scores is not None or self.use_activation is None:
            return self.raw_scores
        return not self.use_activation


class RerankRequest(VllmOptions):
    """A request of Cohere (v1, v2), Jina, vLLM or infinity."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        json_schema_extra={
            "examples": [{"query": "how do vaccines work", "documents": [*_EXAMPLE_DOCUMENTS], "top_n": 1}]
        },
    )

    model: StrictStr | None = Field(default=None, description="Which of the served models; the first where not given.")
    query: StrictStr
    documents: Items[StrictStr | dict[str, Any]] = Field(
        description="Texts, or mappings with a `text` field, or with the fields that `rank_fields` names."
    )
    top_n: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="How many results at most; 0 and null give all."
    )
    return_documents: StrictBool = Field(default=False, description="Whether results carry their documents.")
    rank_fields: Items[StrictStr] | None = Field(
        default=None,
        min_length=1,
        description="Fields of the documents to read, in this order, a line each, once each.",
    )
    max_tokens_per_doc: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="Tokens read of each document at most; the model's maximum holds as well."
    )
    max_chunks_per_doc: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None, description="Must allow what the model is served with: one chunk, or its windows."
    )
    priority: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="0 goes first; each step up to 4 later counts as twice the work."
    )
    relevant_spans: Any = Field(default=None, description="Not served: refused where given.")
    first_stage_scores: Items[StrictFloat | StrictInt] | None = Field(
        default=None, description="A number a document, larger is scored earlier; matters under a deadline."
    )
    stream: StrictBool = Field(
        default=False, description="Improving rankings as server-sent events; `Accept: text/event-stream` asks, too."
    )

    def texts(self) -> list[str | dict[str, Any]]:
        """The documents as the engine takes them.

        Raises:
            Refusal: a document has none of the fields, or one that is no text.
        """
        if self.rank_fields is None:
            return list(self.documents)
        ranks = {name: rank for rank, name in reversed(list(enumerate(self.rank_fields)))}
        return [_joined(document, ranks, place) for place, document in enumerate(self.documents)]

    @property
    def of_infinity(self) -> bool:
        """Whether infinity's client asks: of those that send `documents` it alone sends `raw_scores`, and always."""
        return self.raw_scores is not None

    @property
    def engine_priority(self) -> int:
        """Cohere's priority, where larger numbers go later, on the engine's scale."""
        return max(_LOWEST_PRIORITY, -self.priority)


class TextsRequest(_Scored):
    """text-embeddings-inference's request, recognised by `texts`."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        json_schema_extra={"examples": [{"query": "how do vaccines work", "texts": [*_EXAMPLE_DOCUMENTS]}]},
    )

    query: StrictStr
    texts: Items[StrictStr]
    truncate: StrictBool | None = Field(
        default=None, description="false refuses texts that are longer than the model takes; else they are cut."
    )
    truncation_direction: Literal["right", "left"] = Field(
        default="right", description="Only texts that need no cut can be given 'left'."
    )
    return_text: StrictBool = False

    @field_validator("truncation_direction", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def may_cut(self) -> bool:
        """Whether the end of a text may be left unread."""
        return self.truncate is not False and self.truncation_direction == "right"


class ScoreRequest(VllmOptions):
    """vLLM's request for scores in the texts' order: one text with many, or as many as there are of the other."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        json_schema_extra={"examples": [{"text_1": "how do vaccines work", "text_2": [*_EXAMPLE_DOCUMENTS]}]},
    )

    model: StrictStr | None = None
    text_1: StrictStr | Items[StrictStr] = Field(description="The query, or a query for each text.")
    text_2: StrictStr | Items[StrictStr] = Field(description="The documents.")
    max_tokens_per_doc: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="Not served here: refused where it is neither 0, vLLM's word for no limit, nor null."
    )

    def pairs(self) -> tuple[list[str], list[str]]:
        """As many queries as documents; a single query stands for itself at each.

        Raises:
            Refusal: their numbers do not go together.
        """
        queries = [self.text_1] if isinstance(self.text_1, str) else self.text_1
        documents = [self.text_2] if isinstance(self.text_2, str) else self.text_2
        if len(queries) == 1:
            return queries * len(documents), documents
        if len(queries) != len(documents):
            raise Refusal(
                422,
                f"text_1 has {len(queries)} texts, text_2 has {len(documents)}: one, or as many, expected",
                "invalid_input",
                param="text_1",
            )
        return queries, documents


def _joined(document: str | dict[str, Any], ranks: dict[str, int], place: int) -> str:
    """A document's fields that are named, in the names' order; each once, so that no text grows."""
    if isinstance(document, str):
        return document
    # By the document's own fields: the names may be many more.
    values = [document[name] for name in sorted(document.keys() & ranks.keys(), key=ranks.__getitem__)]
    if not values or not all(isinstance(value, str) for value in values):
        names = ", ".join(sorted(ranks, key=ranks.__getitem__)[:_NAMED_FIELDS])
        raise Refusal(
            422,
            f"documents[{place}]: texts expected in at least one of the fields {names} (rank_fields)",
            "invalid_input",
            param=f"documents[{place}]",
        )
    return "\n".join(values)
