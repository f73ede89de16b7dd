"""`crossrank bench peers` and `load`: crossrank beside other rerankers, alone and with many callers at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.benchmarks.harness.workloads import DocumentLength
from crossrank.cli.bench_output import Outputs, measure_model, names, numbers_of, shares_of, subject_of
from crossrank.cli.common import FAILURE, err
from crossrank.cli.options import (
    CheckpointOption,
    JsonFileOption,
    MarkdownOption,
    MeasuredPrecisionOption,
    MeasuredPrecisionsOption,
    MeasuredProviderOption,
    ModelOption,
    PeersOption,
    PlotsOption,
    RoundsOption,
    TextOption,
)
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossrank.models.manifest import Provider


def peers_command(
    *,
    model: ModelOption = "default",
    checkpoint: CheckpointOption = None,
    provider: MeasuredProviderOption = "cpu",
    precision: MeasuredPrecisionsOption = None,
    peers: PeersOption = None,
    peers_folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the peers' environments are.")] = Path(
        ".peers"
    ),
    install_only: Annotated[
        bool, typer.Option("--install-only", help="Make the peers' environments (gigabytes), and measure nothing.")
    ] = False,
    rounds: RoundsOption = 5,
    curve: Annotated[
        str, typer.Option(help="Top-ks of the latency curve, comma-separated; '' leaves it out.")
    ] = "10,20,50,100",
    no_scenarios: Annotated[bool, typer.Option("--no-scenarios", help="Compare on the curve only.")] = False,
    text: TextOption = None,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
    plots: PlotsOption = Path("crossrank-plots"),
) -> None:
    """Compare with peers on the same weights; takes about an hour.

    Environments that are missing are made first, from PyPI (gigabytes).
    """
    from crossrank.benchmarks.peers.comparison import compare_with_peers
    from crossrank.benchmarks.peers.contenders import chosen_peers, environments_of, participants
    from crossrank.benchmarks.peers.environments import interpreter

    chosen = None if peers is None else names(peers)
    if install_only:
        if not _install(peers_folder, provider, environments_of(chosen_peers(chosen, provider)[0])):
            raise typer.Exit(FAILURE)
        return
    top_ks = numbers_of("curve", curve, empty=True)
    outputs = Outputs(json_file, markdown, plots)
    subject = subject_of(model, provider, precision, checkpoint, text=text, several=True)
    present, absent = participants(chosen, subject)
    missing = [name for name in environments_of(present) if interpreter(peers_folder, name) is None]
    _install(peers_folder, provider, missing)
    measure = partial(compare_with_peers, peers=present, absent=absent, peers_folder=peers_folder)
    scenarios = partial(measure, rounds=rounds, curve_top_ks=top_ks, three_scenarios=not no_scenarios)
    measure_model(outputs, subject, scenarios)


def load_command(
    *,
    model: ModelOption = "default",
    checkpoint: CheckpointOption = None,
    provider: MeasuredProviderOption = "cpu",
    precision: MeasuredPrecisionOption = None,
    peers: PeersOption = None,
    peers_folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the peers' environments are; without it crossrank runs alone."),
    ] = None,
    documents: Annotated[DocumentLength, typer.Option(help="Their length.")] = "middle",
    loads: Annotated[
        str, typer.Option(help="Offered loads as shares of a contender's saturated throughput, comma-separated.")
    ] = "0.3,0.5,0.7,0.9,1,1.5,2",
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds for which each load is offered.")] = 30.0,
    drain: Annotated[float, typer.Option(min=0, help="Seconds given to finish after the last request.")] = 10.0,
    overload: Annotated[
        float, typer.Option(min=0, help="Seconds of twice the saturating load, offered in addition; 0 leaves it out.")
    ] = 0.0,
    after: Annotated[float, typer.Option(min=0.1, help="Seconds to measure before and after the overload.")] = 30.0,
    text: TextOption = None,
    json_file: JsonFileOption = None,
    markdown: MarkdownOption = None,
    plots: PlotsOption = None,
) -> None:
    """Measure many callers at once. Requests of 10 to 100 candidates arrive at random."""
    from crossrank.benchmarks.load.measure import LoadPlan, run_load
    from crossrank.benchmarks.peers.contenders import LOAD_PEERS, participants

    if peers is not None and peers_folder is None:
        raise InvalidInputError("--peers goes with --peers-folder")
    shares = shares_of("loads", loads)
    outputs = Outputs(json_file, markdown, plots)
    subject = subject_of(model, provider, precision, checkpoint, text=text)
    chosen = LOAD_PEERS if peers is None else names(peers)
    present, absent = ([], {}) if peers_folder is None else participants(chosen, subject)
    plan = LoadPlan(loads=shares, seconds=seconds, drain=drain, overload_seconds=overload, after_seconds=after)
    measure = partial(run_load, plan=plan, peers=present, absent=absent, peers_folder=peers_folder)
    measure_model(outputs, subject, partial(measure, documents=documents))


def _install(folder: Path, provider: Provider, environments: Sequence[str]) -> bool:
    """Make environments that are missing; returns whether at least one is usable, or none was missing."""
    from crossrank.benchmarks.peers.environments import install

    console = err()
    results = install(
        folder, environments, provider=provider, progress=lambda name: console.print(f"installing {name} ...")
    )
    for result in results:
        console.print(f"{result.environment}: {result.reason or 'installed'}")
    return not results or not all(result.reason for result in results)
