"""What a classification head means: how many labels, which one is "relevant", and what its logit goes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

from crossrank.errors import InvalidInputError, UnsupportedCheckpointError
from crossrank.models.labels import label_index
from crossrank.models.manifest import Activation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossrank.export.checkpoint.sentence_transformers import SentenceTransformers

# Label names as they occur, without case and punctuation.
_POSITIVE = frozenset(
    {
        "duplicate",
        "entailed",
        "entailment",
        "match",
        "matching",
        "paraphrase",
        "positive",
        "relevance",
        "relevant",
        "similar",
        "true",
        "yes",
    }
)
_NEGATIVE = frozenset(
    {
        "contradiction",
        "dissimilar",
        "false",
        "irrelevant",
        "mismatch",
        "negative",
        "no",
        "nomatch",
        "nonrelevant",
        "notduplicate",
        "notentailment",
        "notmatch",
        "notparaphrase",
        "notrelevant",
        "notsimilar",
    }
)


@dataclass(frozen=True)
class ScoringHead:
    """How logits become a score.

    Attributes:
        num_labels: outputs of the head.
        positive_label: with several labels, the one that means relevant; 0 with one.
        activation: what the logit goes through by default.
        label_names: of several labels, in their order; empty where they have none.
        activation_read: whether the activation is what the checkpoint says, and not stated by caller or catalogue.
        notes: what was assumed, in sentences for the export's report.
    """

    num_labels: int
    positive_label: int
    activation: Activation
    label_names: tuple[str, ...] = ()
    activation_read: bool = False
    notes: tuple[str, ...] = ()


def read_scoring_head(
    config: Mapping[str, Any],
    sentence_transformers: SentenceTransformers,
    *,
    positive_label: int | str | None,
    activation: Activation | None,
    usual_activation: Activation | None = None,
    num_labels: int | None = None,
    independent: bool = False,
) -> ScoringHead:
    """Work out a checkpoint's scoring head from its configuration and what the caller states.

    Args:
        config: the checkpoint's `config.json`.
        sentence_transformers: what sentence-transformers adds to it.
        positive_label: index or name of the label that means relevant; None to derive it, which of three labels and
            more cannot be done.
        activation: what the caller states; None to derive it.
        usual_activation: what the catalogue states for this checkpoint, if it knows it.
        num_labels: outputs of the graph where that is known better than from the configuration.
        independent: whether labels are scored each by itself, so that one of them will be picked.

    Raises:
        InvalidInputError: the activation or the positive label is not one there is.
        UnsupportedCheckpointError: several labels without a hint which is positive, or an activation crossrank does
            not have.
    """
    checked_activation(activation)
    names = read_label_names(config)
    count = num_labels if num_labels is not None else _label_count(config, names)
    if count < 1:
        raise UnsupportedCheckpointError(f"the checkpoint's head has {count} labels; one or more expected")
    if count > 1 and not independent and config.get("problem_type") == "multi_label_classification":
        raise UnsupportedCheckpointError(
            f"the checkpoint's {count} labels ({_listed(names)}) are independent of each other (problem_type "
            f"multi_label_classification), so that a softmax over their logits means nothing; crossrank serves one "
            f"label, or several that exclude each other"
        )
    label, notes = (0, []) if count == 1 else _positive_label(names, count, positive_label)
    if count == 1 and positive_label not in (None, 0):
        raise InvalidInputError(
            f"positive_label {positive_label!r} was given, but the checkpoint has a single label; leave it out"
        )
    chosen, read, why = _activation(config, sentence_transformers, count, activation, usual_activation)
    return ScoringHead(
        num_labels=count,
        positive_label=label,
        activation=chosen,
        label_names=tuple(names[index] for index in range(count))
        if count > 1 and set(names) == {*range(count)}
        else (),
        activation_read=read,
        notes=tuple(notes + why),
    )


def checked_activation(activation: Activation | None) -> Activation | None:
    """An activation as the caller states it.

    Raises:
        InvalidInputError: there is none of that name.
    """
    if activation is not None and activation not in get_args(Activation):
        raise InvalidInputError(f"activation {activation!r} is not known; expected one of {get_args(Activation)}")
    return activation


def read_label_names(config: Mapping[str, Any]) -> dict[int, str]:
    """The names that `config.json` gives labels, by their index."""
    names = config.get("id2label")
    if not isinstance(names, dict):
        return {}
    return {int(index): str(name) for index, name in names.items() if str(index).isdecimal()}


def _label_count(config: Mapping[str, Any], names: Mapping[int, str]) -> int:
    """As transformers counts them: the label names decide, without them `num_labels`, without that two."""
    if names:
        return len(names)
    count = config.get("num_labels", 2)
    return count if isinstance(count, int) else 0


def _positive_label(names: Mapping[int, str], count: int, stated: int | str | None) -> tuple[int, list[str]]:
    indices = tuple(range(count))
    if stated is not None:
        named = {index: name for index, name in names.items() if index in indices}
        found = label_index(stated, named, count)
        if found is None:
            raise InvalidInputError(
                f"positive_label {stated!r} is no label of the checkpoint; expected the index or the name of one: "
                f"{_listed(names) or ', '.join(map(str, indices))}"
            )
        return found, []
    if count > 2:  # noqa: PLR2004
        raise UnsupportedCheckpointError(
            f"the checkpoint's head has {count} labels ({_listed(names) or 'without names'}); name the one whose "
            f"probability is the score with positive_label (--positive-label)"
        )
    plain = {index: _plain(name) for index, name in names.items() if index in indices}
    positive = [index for index, name in plain.items() if name in _POSITIVE]
    negative = [index for index, name in plain.items() if name in _NEGATIVE]
    if len(positive) == 1:
        return positive[0], [f"label {names[positive[0]]!r} was taken as the positive one by its name"]
    if not positive and len(negative) == 1:
        index = 1 - negative[0]
        return index, [f"label {index} was taken as the positive one, because the other is {names[negative[0]]!r}"]
    conventional = plain in ({}, {0: "label0", 1: "label1"}, {0: "0", 1: "1"})
    if conventional:
        return 1, ["label 1 was taken as the positive one by convention; state positive_label if that is wrong"]
    raise UnsupportedCheckpointError(
        f"the checkpoint has two labels ({_listed(names)}) and nothing says which means relevant; "
        f"state it with positive_label (--positive-label)"
    )


def _activation(
    config: Mapping[str, Any],
    sentence_transformers: SentenceTransformers,
    num_labels: int,
    stated: Activation | None,
    usual: Activation | None,
) -> tuple[Activation, bool, list[str]]:
    """The activation, whether the checkpoint says so, and notes."""
    if stated is not None:
        return stated, False, []
    section = config.get("sentence_transformers")
    of_config = (section.get("activation_fn") if isinstance(section, dict) else None) or config.get(
        "sbert_ce_default_activation_function"
    )
    # In the order in which CrossEncoder looks: its own settings first where it was saved with modules.
    of_settings = sentence_transformers.activation
    configured = of_settings or of_config if sentence_transformers.has_modules else of_config or of_settings
    ignored = []
    if configured is not None:
        path = str(configured)
        if "." not in path or path.startswith("torch."):
            named, notes = _named_activation(path, num_labels)
            return named, True, notes
        why = "code that sentence-transformers does not run either unless it is trusted"
        ignored = [f"the checkpoint names the activation {path!r}, {why}"]
    if usual is not None:
        return usual, False, [*ignored, f"the checkpoint names no activation; {usual} was taken from the catalogue"]
    if num_labels == 1:
        why = "sentence-transformers' default for one label"
    elif num_labels > 2:  # noqa: PLR2004
        why = "whose result is the softmax probability of the positive label"
    else:
        why = "of the difference of the two logits, which is the softmax of the positive label"
    problem = config.get("problem_type")
    said = f", whatever its problem_type {problem!r}" if problem else ""
    return "sigmoid", True, [*ignored, f"the checkpoint names no activation; sigmoid was taken ({why}{said})"]


def _named_activation(name: str, num_labels: int) -> tuple[Activation, list[str]]:
    """Translate the class path of a PyTorch module, such as `torch.nn.modules.linear.Identity`."""
    last = name.strip().removesuffix("()").rpartition(".")[2].lower()
    if num_labels > 2 and last == "identity":  # noqa: PLR2004
        note = (
            f"the checkpoint's activation, identity, leaves {num_labels} logits a pair; the score is the softmax "
            f"probability of the positive label (activation='identity' gives its log-odds)"
        )
        return "sigmoid", [note]
    if num_labels > 1 and last == "sigmoid":
        raise UnsupportedCheckpointError(
            f"the checkpoint asks for a sigmoid of each of its {num_labels} labels, which then do not exclude each "
            f"other; state activation='sigmoid' (--activation sigmoid) if the softmax probability of one is the score"
        )
    if last in get_args(Activation):
        return cast("Activation", last), []
    if last == "softmax" and num_labels > 1:
        return "sigmoid", []
    raise UnsupportedCheckpointError(
        f"the checkpoint asks for the activation {name!r}, crossrank has {' and '.join(get_args(Activation))}; "
        f"choose one with activation (--activation): neither changes the ranking"
    )


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _listed(names: Mapping[int, str]) -> str:
    shown = ", ".join(f"{index}: {name!r}" for index, name in sorted(names.items())[:5])
    return f"{shown}, ..." if len(names) > 5 else shown  # noqa: PLR2004
