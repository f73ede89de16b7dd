"""`crossrank evaluate`: how well models rank a judged collection, and how long they take."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from crossrank.cli.bench_output import check_files, check_folder, print_tables, some_of, with_progress
from crossrank.cli.options import (
    JsonFileOption,
    MarkdownOption,
    MaxLengthOption,
    ModelsOption,
    ProviderOption,
    ThreadsOption,
)
from crossrank.errors import InvalidInputError
from crossrank.evaluation.measures import Gain
from crossrank.evaluation.output_file import write_file
from crossrank.models.manifest import PrecisionChoice, ProviderChoice

if TYPE_CHECKING:
    from crossrank.cascade import Cascade
    from crossrank.evaluation.result import Evaluation
    from crossrank.evaluation.scoring import Model

_SCHEMA_VERSION = 1


def evaluate_command(
    *,
    collection: Annotated[
        Path, typer.Option(metavar="BEIR_FOLDER", help="corpus.jsonl, queries.jsonl, qrels/test.tsv, and a *.trec run.")
    ],
    run: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TREC run to rerank; default: the only *.trec of the folder.")
    ] = None,
    model: ModelsOption = None,
    cascade: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="A cascade's file, or 'default'; may be given again. They come last, in the first precision.",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help=f"One or more of {', '.join(get_args(PrecisionChoice))}, comma-separated.")
    ] = "auto",
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    max_length: MaxLengthOption = None,
    depth: Annotated[int, typer.Option(min=1, help="Documents of the run to rerank, for each query.")] = 100,
    queries: Annotated[int | None, typer.Option(min=1, help="First judged queries only; default: all.")] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="As ir-measures writes it, such as nDCG@10, RR(rel=2)@10, R@100 or AP; may be given again. The first "
            "is compared and drawn. Default: nDCG@10, MRR@10, Recall@10."
        ),
    ] = None,
    gain: Annotated[
        Gain, typer.Option(help="What a grade is worth to nDCG: the grade itself, or 2^grade - 1.")
    ] = "linear",
    seed: Annotated[int, typer.Option(min=0, help="Of the significance test.")] = 0,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep scores here and go on from those that are kept, times included; default: in the user's cache.",
        ),
    ] = None,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw quality against time, as PNG.")] = None,
    save_run: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write every model's ranking as a TREC run.")
    ] = None,
) -> None:
    """Rerank a run's documents with each model, and compare the rankings with the first model's."""
    from crossrank.benchmarks.harness.environment import describe_run
    from crossrank.benchmarks.harness.json_text import json_of
    from crossrank.evaluation.dependencies import require_matplotlib
    from crossrank.evaluation.evaluation import evaluate
    from crossrank.evaluation.measures import DEFAULT_MEASURES
    from crossrank.evaluation.report import evaluation_table, write_plot
    from crossrank.evaluation.report_table import tables_to_markdown
    from crossrank.export_cache import cache_folder

    _check_length(max_length, cascade)
    check_files({"--json": json_file, "--markdown": markdown, "--plot": plot})
    for option, folder in (("--save-run", save_run), ("--scores", scores)):
        if folder is not None:
            check_folder(option, folder)
    if plot is not None:
        require_matplotlib()
    precisions: list[PrecisionChoice] = some_of("precision", precision, get_args(PrecisionChoice))
    with ExitStack() as stack:
        models: dict[str, Model] = {}
        for name in model or ([] if cascade else ["default"]):
            _add(models, name, name)
        for name in cascade or []:
            _add(models, f"cascade {name}", stack.enter_context(_cascade(name, provider, precisions[0], threads)))
        conditions = describe_run()
        evaluation = with_progress(
            lambda progress: evaluate(
                collection,
                models,
                run=run,
                depth=depth,
                queries=queries,
                measures=measure or DEFAULT_MEASURES,
                gain=gain,
                precisions=precisions,
                provider=provider,
                threads=threads,
                max_length=max_length,
                seed=seed,
                scores=scores or cache_folder() / "evaluations",
                progress=progress,
            )
        )
    table = evaluation_table(evaluation)
    try:
        print_tables([table])  # first, so that a file which cannot be written takes no figures along
    finally:
        if json_file is not None:
            result = {"schema": _SCHEMA_VERSION, **vars(conditions), **evaluation.as_json()}
            write_file(json_file, json_of(result, indent=2) + "\n")
        if plot is not None:
            write_plot(evaluation, plot)
        if markdown is not None:
            images = [] if plot is None else [Path(os.path.relpath(plot, markdown.parent)).as_posix()]
            write_file(markdown, tables_to_markdown([table], plots=images))
        if save_run is not None:
            _write_runs(evaluation, save_run)


def _check_length(max_length: int | None, cascades: list[str] | None) -> None:
    if cascades and max_length is not None:
        raise InvalidInputError("--cascade names the lengths of its stages: --max-length does not go with it")


def _add(models: dict[str, Model], name: str, model: Model) -> None:
    if name in models:
        raise InvalidInputError(f"{name!r} is given twice; each model and cascade once expected")
    models[name] = model


def _cascade(file: str, provider: ProviderChoice, precision: PrecisionChoice, threads: int | None) -> Cascade:
    from crossrank.cascade import Cascade
    from crossrank.cascade_file import default_cascade_file

    path = default_cascade_file(provider, precision) if file == "default" else file
    return Cascade.from_toml(path, provider=provider, precision=precision, threads=threads)


def _write_runs(evaluation: Evaluation, folder: Path) -> None:
    """A run file for each model, named after it; numbered where two names would be the same."""
    from crossrank.evaluation.trec_run import write_run

    taken: set[str] = set()
    for number, model in enumerate(evaluation.models):
        tag = re.sub(r"[^A-Za-z0-9._-]+", "-", model.name).strip("-.") or f"model-{number}"
        if tag in taken:
            tag = f"{tag}-{number}"
        taken.add(tag)
        write_run(folder / f"{tag}.trec", model.rankings, tag=tag)
