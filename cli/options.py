"""Options that several commands have, each with its type, its names and its help; a command gives the default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from crossrank.models.catalogue import load_catalogue
from crossrank.models.embedded import EMBEDDED_MODELS
from crossrank.models.manifest import Activation, Precision, PrecisionChoice, Provider, ProviderChoice

_LIKE_RERANK = "As for 'crossrank rerank'."


def model_names(incomplete: str) -> list[str]:
    """The short names of models that begin so, for the shell to complete.

    Args:
        incomplete: what has been typed of the name; the shell completes folders by itself.
    """
    return [
        name for name in (*EMBEDDED_MODELS, *(entry.name for entry in load_catalogue())) if name.startswith(incomplete)
    ]


def embedded_names(incomplete: str) -> list[str]:
    """The names of embedded models that begin so, for commands that take an artifact."""
    return [name for name in EMBEDDED_MODELS if name.startswith(incomplete)]


ModelOption: TypeAlias = Annotated[str, typer.Option("--model", "-m", help=_LIKE_RERANK, autocompletion=model_names)]
ModelsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help=f"{_LIKE_RERANK[:-1]}; may be given again. Default: default.",
        autocompletion=model_names,
    ),
]
ProviderOption: TypeAlias = Annotated[ProviderChoice, typer.Option("--provider", help="Where to run.")]
MeasuredProviderOption: TypeAlias = Annotated[
    # There is no 'auto', so that it is known what was measured.
    Provider, typer.Option("--provider", help="What everything runs on, peers included.")
]
PrecisionOption: TypeAlias = Annotated[PrecisionChoice, typer.Option("--precision", help="Graph to run.")]
ThreadsOption: TypeAlias = Annotated[
    int | None, typer.Option("--threads", min=1, help="Processor threads; default: all available cores.")
]
MaxLengthOption: TypeAlias = Annotated[
    int | None, typer.Option("--max-length", min=1, help="Tokens of a pair; default: the model's.")
]
ActivationOption: TypeAlias = Annotated[Activation | None, typer.Option("--activation", help="Default: the model's.")]
TrustRemoteCodeOption: TypeAlias = Annotated[
    bool, typer.Option("--trust-remote-code", help="Allow code that comes with a checkpoint to run.")
]
PositiveLabelOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--positive-label", help="Of several labels: name, else index, of the one whose probability is the score."
    ),
]
PrintJsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print for programs.")]
JsonFileOption: TypeAlias = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")]
MarkdownOption: TypeAlias = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as markdown.")
]
PlotsOption: TypeAlias = Annotated[Path | None, typer.Option("--plots", metavar="FOLDER", help="Write plots as PNG.")]
CheckpointOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FOLDER",
        help="The model's checkpoint: peers load it, and precisions the model lacks are exported from it. "
        "Default for an embedded model in a source checkout: the one it was made from.",
    ),
]
MeasuredPrecisionOption: TypeAlias = Annotated[
    Precision | None, typer.Option("--precision", help="Graph to run; default: int8 on the CPU, fp16 on CUDA.")
]
MeasuredPrecisionsOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--precision", help="Precisions, comma-separated; default: fp32,int8 on the CPU, fp16,fp32 on CUDA."),
]
TextOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--text", metavar="BEIR_FOLDER", help="Take the documents from here; default: Python's own documentation."
    ),
]
CollectionsOption: TypeAlias = Annotated[
    list[Path],
    typer.Option("--collection", metavar="BEIR_FOLDER", help="Queries, judgements and a run; may be given again."),
]
QueriesOption: TypeAlias = Annotated[
    int | None, typer.Option("--queries", min=1, help="So many of each collection, evenly spread; default: all.")
]
RoundsOption: TypeAlias = Annotated[int, typer.Option("--rounds", min=1, help="How often everything is measured.")]
PeersOption: TypeAlias = Annotated[str | None, typer.Option("--peers", help="Which peers, comma-separated.")]
