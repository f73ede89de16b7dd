"""A checkpoint's tokenizer as the library that saved it runs it: `tokenizer.json` with what other files lay over it.

transformers does not take `tokenizer.json` as it is. It sets lower case, accents and Chinese characters anew from
`tokenizer_config.json` for BERT's relatives, the space before the first word for byte-level tokenizers, and adds tokens
that the file lacks. That is done here without transformers, which an import of an ONNX file does not need; tests
compare the ids with those of transformers, and an export compares them on its probe pairs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.json_files import read_json
from crossrank.export.checkpoint.newer_config import installed_transformers
from crossrank.export.checkpoint.rebuilt_tokenizer import FIRST_THAT_REBUILDS, rebuild, without_unlisted_tokens
from crossrank.export.checkpoint.tokenizer import TOKENIZER_NAME, parse_tokenizer, without_truncation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

    from crossrank.export.checkpoint.sentence_transformers import SentenceTransformers

BACKEND_CLASS = "TokenizersBackend"
"""What transformers 5 calls a tokenizer that is nothing but its `tokenizer.json`."""

# Without "Fast", which older files have at the end. Their own normalizer is made anew from the settings.
_BERT_CLASSES = frozenset(
    f"{name}Tokenizer"
    for name in (
        "Bert",
        "ConvBert",
        "DistilBert",
        "Electra",
        "Funnel",
        "LayoutLM",
        "Lxmert",
        "MPNet",
        "MobileBert",
        "RoFormer",
        "SqueezeBert",
    )
)
_CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "gemma": "GemmaTokenizer",
    "llama": "LlamaTokenizer",
    "modernbert": "PreTrainedTokenizer",
    "mpnet": "MPNetTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
}
"""What `AutoTokenizer` takes where no file names a class."""

_FRAMED_CLASSES = frozenset({"GemmaTokenizer", "LlamaTokenizer"})
"""transformers 4 makes their post-processor anew from the settings: which first and last token a text is given."""

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_TOKEN_LISTS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class TokenizerSettings:
    """What lies over a `tokenizer.json`.

    Attributes:
        values: `tokenizer_config.json`, with what sentence-transformers sets and the special tokens of
            `special_tokens_map.json` where it lists none.
        class_name: class of transformers that reads it, without "Fast"; empty where nothing says.
        complete: whether `tokenizer.json` is to be taken as it is, but for added tokens.
        older_tokens: entries of `added_tokens_decoder` that `added_tokens.json` stands for, where there is none.
    """

    values: Mapping[str, Any]
    class_name: str
    complete: bool
    older_tokens: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def read_tokenizer_settings(
    folder: Path, config: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> TokenizerSettings:
    """Read `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.

    Args:
        folder: the checkpoint.
        config: its `config.json`; empty where there is none.
        overrides: settings that go over the files'.

    Raises:
        UnsupportedCheckpointError: a setting makes crossrank read texts otherwise.
    """
    values = read_json(folder / "tokenizer_config.json")
    special = read_json(folder / "special_tokens_map.json")
    # The map is of older files; where the added tokens are listed, transformers does not open it.
    values = special | values if "added_tokens_decoder" in values else values | special
    values |= overrides or {}
    named = values.get("tokenizer_class") or config.get("tokenizer_class")
    if not isinstance(named, str):
        named = _CLASS_OF_MODEL.get(str(config.get("model_type")), "")
    complete = named == BACKEND_CLASS or not named
    if values.get("split_special_tokens"):
        raise UnsupportedCheckpointError(
            f"the tokenizer of {folder} has split_special_tokens, with which the text '[SEP]' in a document is no "
            f"separator; crossrank reads special tokens in texts as such. Set it to false in tokenizer_config.json "
            f"where that is wanted"
        )
    older = {} if "added_tokens_decoder" in values else _older_tokens(read_json(folder / "added_tokens.json"), values)
    return TokenizerSettings(values, named.removesuffix("Fast"), complete, older)


def _older_tokens(ids: Mapping[str, Any], values: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """What transformers makes of the tokens of `added_tokens.json`, which has nothing but their ids."""
    more = values.get("additional_special_tokens")
    named = [*(values.get(name) for name in _NAMED_TOKENS), *(more if isinstance(more, list) else ())]
    special = [token.get("content") if isinstance(token, dict) else token for token in named]
    return {
        index: {"content": content, "normalized": content not in special, "special": content in special}
        for content, index in ids.items()
        if isinstance(index, int)
    }


def complete_tokenizer(
    folder: Path, settings: TokenizerSettings, added: SentenceTransformers | None = None
) -> Tokenizer:
    """The tokenizer of `tokenizer.json` with all that lies over it; truncation and padding are taken off.

    Args:
        folder: the checkpoint, with a `tokenizer.json`.
        settings: what lies over it.
        added: what sentence-transformers adds.

    Raises:
        UnsupportedCheckpointError: there is no such file, it is no tokenizer, or it keeps the end of long texts.
    """
    tokenizer = parse_tokenizer(folder / TOKENIZER_NAME)
    inside = str((tokenizer.truncation or {}).get("direction", "right")).lower()
    refuse_truncation_side(settings.values.get("truncation_side", inside), folder)
    installed = installed_transformers()
    rebuilds = not settings.complete and installed is not None and installed >= FIRST_THAT_REBUILDS
    if rebuilds:
        tokenizer = without_unlisted_tokens(tokenizer, settings.class_name, settings.values)
    _add_tokens(tokenizer, settings)
    if not settings.complete:
        _set_normalizer(tokenizer, settings, folder)
        _set_prefix_space(tokenizer, settings)
        if rebuilds:
            rebuild(tokenizer, settings.class_name, settings.values)
        else:
            _set_frame(tokenizer, settings)
    if added is not None and added.lower_case:
        lower_first(tokenizer)
    return without_truncation(tokenizer)


def lower_first(tokenizer: Tokenizer) -> None:
    """Lower text before anything else, as sentence-transformers does where `do_lower_case` is set."""
    from tokenizers import normalizers

    normalizer = tokenizer.normalizer
    steps = [] if normalizer is None else [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        steps = [normalizer[index] for index in range(len(json.loads(normalizer.__getstate__())["normalizers"]))]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def model_max_length(settings: TokenizerSettings) -> object:
    """The limit the tokenizer states, under its present or its former name; None where it states none."""
    limit: object = settings.values.get("model_max_length", settings.values.get("max_len"))
    return limit


def refuse_truncation_side(side: object, folder: Path) -> None:
    """Refuse a tokenizer that keeps the end of a text.

    Raises:
        UnsupportedCheckpointError: `side` is not "right".
    """
    if side != "right":
        raise UnsupportedCheckpointError(
            f"the tokenizer of {folder.name} has truncation_side {side!r}: it keeps the end of a long document, "
            f"crossrank its beginning; where that is wanted all the same, set "
            f'"truncation_side": "right" in tokenizer_config.json'
        )


def _add_tokens(tokenizer: Tokenizer, settings: TokenizerSettings) -> None:
    values, own = settings.values, tokenizer.get_added_tokens_decoder()
    present = {repr(token) for token in own.values()}
    known = {token.content for token in own.values()}
    listed = values.get("added_tokens_decoder")
    # A token that tokenizer.json has under the same id goes over that of the older file.
    older = {str(index): token for index, token in settings.older_tokens.items() if index not in own}
    listed = listed if isinstance(listed, dict) else older
    wanted: list[Any] = []
    for index in sorted((key for key in listed if str(key).isdecimal()), key=int):
        token = _token(listed[index], special=False)
        if token is not None and repr(token) not in present:
            wanted.append(token)
            known.add(token.content)
    for name in _NAMED_TOKENS:
        wanted += _lacking([values.get(name)], known)
    for name in _TOKEN_LISTS:
        more = values.get(name)
        more = list(more.values()) if isinstance(more, dict) else more
        wanted += _lacking(more if isinstance(more, list) else [], known)
    if wanted:
        tokenizer.add_tokens(wanted)


def _lacking(tokens: list[Any], known: set[str]) -> list[Any]:
    lacking = []
    for given in tokens:
        token = _token(given, special=True)
        if token is not None and token.content not in known:
            known.add(token.content)
            lacking.append(token)
    return lacking


def _token(given: Any, *, special: bool) -> Any:
    from tokenizers import AddedToken

    if isinstance(given, str):
        return AddedToken(given, special=special)
    if not isinstance(given, dict) or not isinstance(given.get("content"), str):
        return None
    flags = {key: bool(given[key]) for key in ("lstrip", "rstrip", "single_word", "normalized") if key in given}
    return AddedToken(given["content"], special=special or bool(given.get("special")), **flags)


def _set_normalizer(tokenizer: Tokenizer, settings: TokenizerSettings, folder: Path) -> None:
    """BERT's normalizer with the settings of `tokenizer_config.json`, whose absence means their defaults.

    Raises:
        UnsupportedCheckpointError: a setting is neither true nor false.
    """
    from tokenizers import normalizers

    if settings.class_name not in _BERT_CLASSES or tokenizer.normalizer is None:
        return
    state = json.loads(tokenizer.normalizer.__getstate__())
    if state.get("type") != "BertNormalizer":
        return

    def read(name: str, usual: bool | None) -> bool | None:
        value = settings.values.get(name, usual)
        if value is not usual and value not in (False, True):
            raise UnsupportedCheckpointError(
                f"tokenizer_config.json of {folder} has {name} {value!r}; true or false expected"
            )
        return None if value is None else bool(value)

    wanted = {"lowercase": read("do_lower_case", True), "strip_accents": read("strip_accents", None)}
    if settings.class_name != "MPNetTokenizer":
        wanted["handle_chinese_chars"] = read("tokenize_chinese_chars", True)
    if any(state.get(key, value) != value for key, value in wanted.items()):
        state.pop("type")
        tokenizer.normalizer = normalizers.BertNormalizer(**(state | wanted))


def _set_prefix_space(tokenizer: Tokenizer, settings: TokenizerSettings) -> None:
    """Byte-level tokenizers: whether the first word is read as if a space stood before it."""
    from tokenizers import pre_tokenizers

    if tokenizer.pre_tokenizer is None:
        return
    state = json.loads(tokenizer.pre_tokenizer.__getstate__())
    wanted = bool(settings.values.get("add_prefix_space", False))
    if state.get("type") == "ByteLevel" and state.get("add_prefix_space", wanted) != wanted:
        state.pop("type")
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(**(state | {"add_prefix_space": wanted}))


def _set_frame(tokenizer: Tokenizer, settings: TokenizerSettings) -> None:
    """Llama's and Gemma's tokenizers: the tokens that every text of a pair begins and ends with."""
    from tokenizers import processors

    if settings.class_name not in _FRAMED_CLASSES:
        return
    names = (
        {"bos": "<s>", "eos": "</s>"} if settings.class_name == "LlamaTokenizer" else {"bos": "<bos>", "eos": "<eos>"}
    )
    for name, usual in names.items():
        given = _token(settings.values.get(f"{name}_token", usual), special=True)
        names[name] = usual if given is None else given.content
    before = names["bos"] if settings.values.get("add_bos_token", True) else ""
    after = names["eos"] if settings.values.get("add_eos_token", False) else ""
    texts = [
        " ".join(f"{piece}:{segment}" for piece in (before, text, after) if piece)
        for segment, text in enumerate(("$A", "$B"))
    ]
    ids = [(token, tokenizer.token_to_id(token)) for token in (before, after) if token]
    if all(isinstance(index, int) for _, index in ids):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=texts[0], pair=" ".join(texts), special_tokens=ids
        )
