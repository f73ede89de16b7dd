"""A tokenizer that numbers every token of a pair 0, for a graph that takes segment ids and was trained without.

The engine gives a graph the ids of the tokenizer's own post-processor. Libraries give none to a model whose tokenizer
settings name no segment ids, and the model then takes its first segment for every token.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TEXT = "a"


def with_one_segment(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with the segment id 0 for every token; as it is where it numbers them so already.

    Raises:
        UnsupportedCheckpointError: its post-processor is of a kind whose segment ids crossrank cannot set.
    """
    if not _numbers_two(tokenizer):
        return tokenizer
    from tokenizers import Tokenizer as Parsed

    content = json.loads(tokenizer.to_str())
    content["post_processor"] = _one_segment(content["post_processor"])
    changed = Parsed.from_str(json.dumps(content))
    if _numbers_two(changed):
        raise UnsupportedCheckpointError(
            f"the tokenizer's settings name no token_type_ids (model_input_names), and its post-processor "
            f"{content['post_processor'].get('type')!r} numbers two segments in a way that crossrank does not know; a "
            f"TemplateProcessing or BertProcessing expected"
        )
    return changed


def _numbers_two(tokenizer: Tokenizer) -> bool:
    return any(tokenizer.encode(_TEXT, _TEXT).type_ids)


def _one_segment(processor: dict[str, Any] | None) -> dict[str, Any]:
    """A post-processor as `tokenizer.json` states it, with other segment ids."""
    if processor is None:
        return _template([_piece("A")], [_piece("A"), _piece("B")], {})
    kind = processor.get("type")
    if kind == "Sequence":
        return processor | {"processors": [_one_segment(part) for part in processor["processors"]]}
    if kind == "TemplateProcessing":
        single, pair = ([_zero(piece) for piece in processor[form]] for form in ("single", "pair"))
        return processor | {"single": single, "pair": pair}
    if kind == "BertProcessing":
        special = {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in _ends(processor)}
        first, last = (_piece(name) for name, _ in _ends(processor))
        return _template([first, _piece("A"), last], [first, _piece("A"), last, _piece("B"), last], special)
    return processor


def _ends(processor: dict[str, Any]) -> list[tuple[str, int]]:
    return [(processor[name][0], processor[name][1]) for name in ("cls", "sep")]


def _template(single: list[dict[str, Any]], pair: list[dict[str, Any]], special: dict[str, Any]) -> dict[str, Any]:
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def _piece(name: str) -> dict[str, Any]:
    return {"Sequence" if name in ("A", "B") else "SpecialToken": {"id": name, "type_id": 0}}


def _zero(piece: dict[str, Any]) -> dict[str, Any]:
    return {kind: value | {"type_id": 0} for kind, value in piece.items()}
