"""Decoders among checkpoints: which ones score, with which template, and by which of their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from crossrank.engine.text.safe_cuts import SafeCuts
from crossrank.engine.text.template import PairTemplate
from crossrank.errors import InvalidInputError, UnsupportedCheckpointError
from crossrank.export.checkpoint.scoring_head import ScoringHead, checked_activation
from crossrank.models.templates import TEMPLATES, TemplateName

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tokenizers import Tokenizer

    from crossrank.export.checkpoint.complete_tokenizer import TokenizerSettings
    from crossrank.models.catalogue import CatalogueEntry
    from crossrank.models.manifest import Activation, Template
    from crossrank.models.templates import KnownTemplate

DECODERS = frozenset({"gemma", "llama", "qwen2", "qwen3"})
"""Model types whose attention is causal and that can be exported."""

_OTHER_DECODERS = frozenset(
    {
        *("cohere", "falcon", "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "gpt2", "gpt_bigcode", "gpt_neo"),
        *("gpt_neox", "gptj", "granite", "internlm2", "minicpm", "mistral", "mixtral", "mpt", "olmo", "olmo2", "opt"),
        *("phi", "phi3", "qwen2_moe", "qwen3_moe", "smollm3", "stablelm", "starcoder2"),
    }
)
"""More model types with causal attention, which are recognized and cannot be exported."""

MAX_LENGTH = 2048
"""Tokens of a pair where the caller states none. Decoders have positions for far more than fits into memory:
attention's scores take `heads x tokens^2` floats, up to three times at once: 0.8 GB for 16 heads, 13 GB at 8192."""

_BEGINNINGS = ("a", "Z", "5", ".", "(", " ", "\t", "\n", "\u0301", "\u4e2d", "\u05d0", "<", "")
"""What a document may begin with, one of each kind that tokenizers tell apart; the last is an empty one."""

_CLASSIFIER, _LANGUAGE_MODEL = "ForSequenceClassification", "ForCausalLM"


@dataclass(frozen=True)
class Decoder:
    """How a decoder scores.

    Attributes:
        generates: whether its head is a language model's, of which the answers' rows are taken; else a classifier's.
        known: the template that pairs are put into; None for the tokenizer's own layout of a pair.
    """

    generates: bool
    known: KnownTemplate | None


def read_decoder(
    name: str, config: Mapping[str, Any], stated: TemplateName | None, entry: CatalogueEntry | None
) -> Decoder | None:
    """What kind of decoder a checkpoint is; None where it is none.

    Args:
        name: the checkpoint's.
        config: its `config.json`.
        stated: the template that the caller states.
        entry: what the catalogue says of it.

    Raises:
        InvalidInputError: there is no such template, or the checkpoint is no decoder.
        UnsupportedCheckpointError: nothing says which template a language model was trained with.
    """
    names = get_args(TemplateName)
    if stated is not None and stated not in names:
        raise InvalidInputError(f"template={stated!r}: one of {', '.join(names)} expected")
    model_type = config.get("model_type")
    if model_type not in DECODERS:
        if stated is not None:
            raise InvalidInputError(
                f"template={stated!r} was given, but {name} is of the model type {model_type!r}; templates are for "
                f"decoders: {', '.join(sorted(DECODERS))}"
            )
        return None
    architectures = [str(item) for item in config.get("architectures") or []]
    of_catalogue = entry.template if entry is not None and entry.model_type == model_type else ""
    chosen = stated or of_catalogue or None
    known = TEMPLATES[chosen] if chosen else None
    if any(item.endswith(_CLASSIFIER) for item in architectures):
        return Decoder(generates=False, known=known)
    if not any(item.endswith(_LANGUAGE_MODEL) for item in architectures):
        raise UnsupportedCheckpointError(
            f"{name} has no head that scores: its config.json names {architectures or 'no architecture'}; a "
            f"...{_CLASSIFIER} or a ...{_LANGUAGE_MODEL} expected"
        )
    if known is None:
        raise UnsupportedCheckpointError(
            f"{name} is a language model ({', '.join(architectures)}): its score depends on the text that it was "
            f"trained to find around query and document, and nothing says which. If it is a reranker of a kind that "
            f"crossrank knows, state its template (--template, one of {', '.join(names)}); with another text its "
            f"scores would be wrong"
        )
    return Decoder(generates=True, known=known)


def refuse_decoder_file(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse an ONNX file whose configuration is a decoder's.

    Args:
        file: the graph.
        config: the `config.json` of its folder.

    Raises:
        UnsupportedCheckpointError: it is a decoder's.
    """
    architectures = [str(item) for item in config.get("architectures") or []]
    model_type = config.get("model_type")
    if model_type in DECODERS | _OTHER_DECODERS or any(item.endswith(_LANGUAGE_MODEL) for item in architectures):
        raise UnsupportedCheckpointError(
            f"{file} is the graph of a decoder (model type {model_type!r}): nothing says with which text around query "
            f"and document it was trained, nor by which of a row's tokens the graph scores, so its scores could be "
            f"wrong unseen; export the checkpoint itself (crossrank export; {', '.join(sorted(DECODERS))})"
        )


def answer_head(
    decoder: Decoder | None, activation: Activation | None, positive_label: int | str | None
) -> ScoringHead | None:
    """The head of a language model, of which the rows of one or two tokens are left; None for every other.

    Args:
        decoder: what kind of decoder a checkpoint is; None where it is none.
        activation: what the caller states; None for the template's.
        positive_label: what the caller states; a language model has none.

    Raises:
        InvalidInputError: a label is stated, or an activation that there is not.
    """
    if decoder is None or not decoder.generates or decoder.known is None:
        return None
    if positive_label not in (None, 0):
        raise InvalidInputError(
            f"positive_label {positive_label!r} was given, but a language model has no labels; leave it out"
        )
    return ScoringHead(1, 0, checked_activation(activation) or decoder.known.activation)


def read_layout(
    decoder: Decoder | None, settings: TokenizerSettings, tokenizer: Tokenizer, name: str
) -> tuple[Template | None, tuple[int, ...]]:
    """The template of a decoder, and the tokens by which a language model scores.

    Args:
        decoder: what kind of decoder a checkpoint is; None where it is none.
        settings: of its tokenizer.
        tokenizer: the tokenizer.
        name: the checkpoint's.

    Raises:
        UnsupportedCheckpointError: the tokenizer is not of the kind that the template is for.
    """
    if decoder is None or decoder.known is None:
        return None, ()
    bos, pad = (_named_token(settings.values, token) for token in ("bos_token", "pad_token"))
    template = _template_of(decoder.known, bos, pad)
    _refuse_other_tokenizer(template, tokenizer, name)
    return template, _answer_ids(decoder.known, tokenizer, name) if decoder.generates else ()


def decoder_notes(
    template: Template | None, tokenizer: Tokenizer, length: int, config: Mapping[str, Any], *, stated: bool
) -> tuple[str, ...]:
    """What was chosen for a decoder without being asked for.

    Args:
        template: its template.
        tokenizer: the tokenizer, by which pairs are laid out without a template.
        length: tokens of a pair.
        config: its `config.json`.
        stated: whether the caller stated the template.
    """
    notes = []
    if template is not None and not stated:
        notes.append(f"the template {template.name} was taken from the catalogue, by the checkpoint's name")
    if template is None:
        joined = not len(PairTemplate.of(tokenizer).middle)
        how = "query and document are joined without anything between them" if joined else "the tokenizer's own tokens"
        how += ", as transformers joins them" if joined else " alone stand around query and document"
        notes.append(
            f"no template: {how}. If the model was trained with a text around them, as conversions of Qwen3-Reranker "
            f"are, its scores are wrong so: state its template (--template)"
        )
    positions = config.get("max_position_embeddings")
    if length == MAX_LENGTH and isinstance(positions, int) and positions > length:
        notes.append(
            f"pairs have up to {length} tokens, because attention takes memory by their square; the model has "
            f"positions for {positions}: state max_length for more"
        )
    return tuple(notes)


def _template_of(known: KnownTemplate, bos: str | None, pad: str | None) -> Template:
    """The template for one checkpoint, whose tokenizer may begin every text with a token.

    Args:
        known: the template.
        bos: the token that the tokenizer's settings call the beginning of a text.
        pad: its padding token.
    """
    if not known.begins_with_bos or bos is None or bos == pad:
        return known.template
    return known.template.model_copy(update={"prefix": (bos,)})


def _named_token(settings: Mapping[str, Any], name: str) -> str | None:
    """A token by its name in `tokenizer_config.json`, such as 'bos_token'."""
    token = settings.get(name)
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) and content else None


def _answer_ids(known: KnownTemplate, tokenizer: Tokenizer, name: str) -> tuple[int, ...]:
    """Ids of the tokens that mean yes and no.

    Args:
        known: says their texts.
        tokenizer: of the checkpoint.
        name: the checkpoint's.

    Raises:
        UnsupportedCheckpointError: one of them is not a single token.
    """
    ids = []
    for answer in known.answers:
        encoded = tokenizer.encode(answer, add_special_tokens=False).ids
        if len(encoded) != 1:
            raise UnsupportedCheckpointError(
                f"the tokenizer of {name} makes {len(encoded)} tokens of {answer!r}, by which the template "
                f"{known.template.name} scores; one expected: it is the template of another kind of model"
            )
        ids.append(int(encoded[0]))
    return tuple(ids)


def _refuse_other_tokenizer(template: Template, tokenizer: Tokenizer, name: str) -> None:
    """Refuse a tokenizer with which a template would not become the tokens that its model was trained with.

    Raises:
        UnsupportedCheckpointError: a special token that the template spells out is none of the tokenizer's, or the
            tokenizer may join the end of the query's text with the document.
    """
    parts = " ".join((*template.prefix, *template.suffix))
    for token in ("<|im_start|>", "<|im_end|>"):
        if token in parts and tokenizer.token_to_id(token) is None:
            raise UnsupportedCheckpointError(
                f"the tokenizer of {name} has no token {token!r}, which the template {template.name} is made of; it is "
                f"the template of another kind of model"
            )
    if template.document.startswith(" "):
        before = (template.middle or (template.query,))[-1][-1]
        cuts = SafeCuts.of(tokenizer)
        if cuts is None or not all(cuts.allows(before, f" {beginning}") for beginning in _BEGINNINGS):
            raise UnsupportedCheckpointError(
                f"the tokenizer of {name} may make one token of the last character before the space of the template "
                f"{template.name} and of what comes after it, so that query and document cannot be tokenized apart; it "
                f"is not of the kind that the template is for"
            )
