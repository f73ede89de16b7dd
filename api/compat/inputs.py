"""What `predict` and `rank` are given, read as sentence-transformers 6.2 reads it: one pair, or a batch of pairs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.engine.text.documents import as_list
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

Pairs = list[tuple[str, str]]

_PAIR = 2
_PAIRS_EXPECTED = "a (query, document) pair of strings expected, or a list of such pairs"


def read_pairs(inputs: Any) -> tuple[Pairs, bool]:
    """The pairs, and whether it was one by itself.

    A list or tuple whose first item is none is one pair; so is an array of strings with one axis.

    Raises:
        InvalidInputError: it is neither a pair nor a batch of pairs of strings; the message names the position.
    """
    lists = _list_types()
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "UO":
        alone = inputs.size > 0 and inputs.ndim < _PAIR
        inputs = inputs.tolist()
    elif isinstance(inputs, lists):
        alone = len(inputs) > 0 and not isinstance(inputs[0], lists)
    else:
        kind = f"an array of {inputs.dtype}" if isinstance(inputs, np.ndarray) else f"a {type(inputs).__name__}"
        raise InvalidInputError(f"inputs is {kind}: {_PAIRS_EXPECTED}")
    if alone and not isinstance(inputs[0], str):
        raise InvalidInputError(f"inputs[0] is a {type(inputs[0]).__name__}: {_PAIRS_EXPECTED}")
    if alone:
        return [_pair(inputs, "inputs", lists)], True
    return [_pair(item, f"inputs[{index}]", lists) for index, item in enumerate(inputs)], False


def candidate_pairs(query: Any, documents: Any) -> tuple[Pairs, list[Any]]:
    """A query with each of its documents, and the documents as they were given.

    Raises:
        InvalidInputError: query or document is no string, or the documents are one string; the message names it.
    """
    if not isinstance(query, str):
        raise InvalidInputError(f"query is a {type(query).__name__}: a string expected")
    items = as_list(documents, of="strings")
    for index, item in enumerate(items):
        if not isinstance(item, str):
            raise InvalidInputError(f"documents[{index}] is a {type(item).__name__}: a string expected")
    return [(str(query), str(item)) for item in items], items


def batches_of(pairs: Pairs, batch_size: int) -> list[npt.NDArray[np.int64]]:
    """Which pairs sentence-transformers puts together: the longest first, by characters."""
    longest_first = np.argsort([-(len(query) + len(document)) for query, document in pairs])
    return [longest_first[start : start + batch_size] for start in range(0, len(pairs), batch_size)]


def chosen_prompt(
    prompts: Mapping[str, str], default: str | None, prompt: str | None, prompt_name: str | None
) -> str | None:
    """What goes before each query.

    Args:
        prompts: by name.
        default: name of the one that applies where a call names none.
        prompt: of the call.
        prompt_name: of the call.

    Raises:
        InvalidInputError: there is no prompt of that name, both were given, or it is no string.
    """
    if prompt is not None and prompt_name is not None:
        raise InvalidInputError(f"prompt={prompt!r:.100} and prompt_name={prompt_name!r:.100}: one of them expected")
    name = default if prompt is None and prompt_name is None else prompt_name
    if name is not None:
        if name not in prompts:
            raise InvalidInputError(
                f"there is no prompt {name!r}, only {sorted(prompts)} (prompts saved in the checkpoint are not read: "
                "give them as `prompts`)"
            )
        prompt = prompts[name]
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidInputError(f"prompt={prompt!r:.100}: a string expected")
    return prompt


def _pair(item: Any, name: str, lists: tuple[type[Any], ...]) -> tuple[str, str]:
    if not isinstance(item, lists) or len(item) != _PAIR:
        length = f" of {len(item)}" if isinstance(item, lists) else ""
        raise InvalidInputError(f"{name} is a {type(item).__name__}{length}: {_PAIRS_EXPECTED}")
    query, document = item
    for text, of in ((query, "query"), (document, "document")):
        if not isinstance(text, str):
            raise InvalidInputError(f"the {of} of {name} is a {type(text).__name__}: a string expected")
    return str(query), str(document)


def _list_types() -> tuple[type[Any], ...]:
    """What is a list to sentence-transformers: also a column of the datasets library, where that is in use."""
    column = getattr(sys.modules.get("datasets"), "Column", None)
    return (list, tuple, column) if isinstance(column, type) and issubclass(column, Iterable) else (list, tuple)
