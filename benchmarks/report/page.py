"""The report as one HTML page that loads nothing and runs nothing."""

from __future__ import annotations

from html import escape
from textwrap import shorten
from typing import TYPE_CHECKING

from crossrank.benchmarks.report.plots import call_times, throughput
from crossrank.evaluation.report_table import milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crossrank.benchmarks.report.content import ModelReport
    from crossrank.models.manifest import Graph

_SHOWN = 300
"""Characters of a reference document that are shown; the manifest has all of it."""
_STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --panel: #f6f8fa; }
@media (prefers-color-scheme: dark) {
:root { --back: #12161c; --ink: #e8edf2; --soft: #a7b1bc; --line: #3a444e; --panel: #1a2027; }
}
body { font: 16px/1.5 system-ui, sans-serif; background: var(--back); color: var(--ink); margin: 0 auto;
  padding: 2rem 1.2rem; max-width: 60rem; }
h1 { margin: 0; font-size: 1.8rem; } h2 { margin: 2.5rem 0 .6rem; font-size: 1.25rem; }
p { max-width: 48rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; } caption { text-align: left; color: var(--soft); }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { font-weight: 600; } .number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.verdict { border: 2px solid; border-radius: 8px; padding: .6rem 1rem; margin: 1.2rem 0; font-weight: 600; }
tbody th { min-width: 9rem; } .pairs td:first-child { min-width: 12rem; }
.scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; } svg text { fill: currentColor; }
code, pre { font: .88rem ui-monospace, monospace; background: var(--panel); border-radius: 4px; padding: .1rem .3rem; }
pre { padding: .7rem; overflow-x: auto; }
@media print { body { max-width: none; } }
"""


def html_page(report: ModelReport) -> str:
    """The page.

    Args:
        report: what it says.
    """
    name = escape(report.manifest.name)
    parts = [
        f"<h1>{name}</h1><p class='soft'>{escape(_shape(report))}</p>",
        _verdict(report),
        _section("The model", _facts(_model_rows(report))),
        _section("Graphs, and what they were compared with", _graphs(report.manifest.graphs), _how_verified(report)),
        _section("This machine against the recorded scores", _checks(report)),
        _section("How long calls take here", *_latency(report)),
        _section("What the export did", *map(_passes, report.manifest.graphs)),
        _section("Reference pairs", _reference_pairs(report)),
        _section("Files", _table(("file", "bytes", "sha256"), _file_rows(report), right={"bytes"})),
        _section("How this report was made", _facts(report.run.rows()), f"<pre>{escape(report.command)}</pre>"),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}, crossrank report</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{_STYLE}</style></head>\n'
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()) -> str:
    numbers = {index for index, column in enumerate(columns) if column in set(right)}
    head = "".join(
        f'<th scope="col"{_aligned(index in numbers)}>{escape(name)}</th>' for index, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_aligned(index in numbers)}>{escape(cell)}</td>" for index, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _aligned(number: bool) -> str:
    return ' class="number"' if number else ""


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f"<div class='scroll'><table><tbody>{body}</tbody></table></div>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _shape(report: ModelReport) -> str:
    shape = report.manifest.architecture
    layers = f"{shape.num_hidden_layers} layers of {shape.hidden_size}"
    return f"{shape.model_type}, {layers}, {report.manifest.max_length} tokens a pair"


def _verdict(report: ModelReport) -> str:
    pairs = len(report.manifest.reference_pairs)
    if not pairs:
        return "<p class='verdict'>All files have their recorded digests. No reference pairs are recorded.</p>"
    agree = "agree with" if report.passed else "DIFFER from"
    return (
        f"<p class='verdict'>{'✓' if report.passed else '✗'} All files have their recorded digests, and the scores of "
        f"{pairs} reference pairs {agree} the recorded ones on this machine.</p>"
    )


def _model_rows(report: ModelReport) -> list[tuple[str, str]]:
    manifest = report.manifest
    source = manifest.source
    labels = f", label {manifest.positive_label} means relevant" if manifest.num_labels > 1 else ""
    libraries = ", ".join(f"{name} {version}" for name, version in sorted(manifest.library_versions.items()))
    weights = ", ".join(
        f"{name} (sha256 {digest})" for name, digest in (source.weights_sha256 | source.files_sha256).items()
    )
    return [
        ("source", " ".join(part for part in (source.kind, source.id, source.revision) if part)),
        ("made of", weights),
        ("licence", source.licence or "not stated"),
        ("labels, activation", f"{manifest.num_labels}{labels}, {manifest.activation}"),
        ("made by", f"crossrank {manifest.crossrank_version}, {libraries}"),
        ("artifact", f"{report.folder}, schema {manifest.schema_version}"),
    ]


def _graphs(graphs: Iterable[Graph]) -> str:
    columns = ("graph", "for", "runs", "compared with", "on", "largest difference", "Kendall tau", "same first ten")
    rows = [
        (
            f"{graph.file} ({graph.precision})",
            ", ".join(graph.providers),
            graph.batching,
            graph.fidelity.reference,
            f"{graph.fidelity.pairs} pairs, {graph.fidelity.queries} queries",
            f"{graph.fidelity.max_abs_logit_difference:.2g}",
            _share(graph.fidelity.kendall_tau),
            _share(graph.fidelity.top10_overlap),
        )
        for graph in graphs
    ]
    return _table(columns, rows, right=columns[5:])


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _how_verified(report: ModelReport) -> str:
    verification = report.manifest.verification
    explained = "Largest difference is of logits. Kendall tau is 1 where both order the documents of a query alike."
    if any(graph.precision == "fp16" for graph in report.manifest.graphs):
        explained += " fp16 was computed in float32, which shows the rounding of its weights and no more."
    if verification is None:
        return _paragraph(f"What the checkpoint was compared with is not recorded. {explained}")
    return _paragraph(
        f"Scores were compared with {verification.reference}, token ids with {verification.tokens}. "
        f"On {verification.probes} further pairs, made to tell misreadings of a checkpoint apart, scores differ by "
        f"{verification.max_abs_difference:.2g} at most. {explained}"
    )


def _checks(report: ModelReport) -> str:
    columns = ("graph", "pairs", "largest difference", "tolerance", "")
    rows = [
        (
            check.file,
            str(check.pairs),
            f"{check.largest_difference:.2g}",
            f"{check.tolerance:g}",
            "agrees" if check.passed else "DIFFERS",
        )
        for check in report.checks
    ]
    return _table(columns, rows, right=columns[1:4]) + _paragraph(
        "Differences are relative to the recorded logit where that is above 1. Processors add numbers in different "
        "orders, so another machine shows other last digits."
    )


def _latency(report: ModelReport) -> list[str]:
    if report.not_timed:
        return [_paragraph(f"Not measured: {report.not_timed}.")]
    columns = ("precision", "documents", "tokens a pair", "how many", "p50 ms", "p90 ms", "p99 ms", "calls", "pairs/s")
    rows = [
        (
            cell.precision,
            cell.documents,
            f"{cell.mean_pair_tokens:.0f}",
            str(cell.top_k),
            *map(milliseconds, (cell.latency.p50, cell.latency.p90, cell.latency.p99)),
            str(cell.latency.calls),
            f"{cell.pairs_per_second:.0f}",
        )
        for cell in report.latency
    ]
    return [
        _paragraph(
            f"Whole calls of rank() on {report.provider}, from texts to the ranking. A whisker reaches from the "
            "median to the 90th percentile. Other work on the machine shows; the load before is at the end of the page."
        ),
        call_times(report.latency),
        throughput(report.latency),
        _table(columns, rows, right=columns[2:]),
    ]


def _passes(graph: Graph) -> str:
    rows = [(record.name, record.detail or ("done" if record.changed else "no change")) for record in graph.passes]
    return f"<h3>{escape(graph.file)}</h3>" + (_facts(rows) if rows else _paragraph("No passes are recorded."))


def _reference_pairs(report: ModelReport) -> str:
    graphs = report.manifest.graphs
    columns = ("query", "document", *(f"logit, {graph.precision}" for graph in graphs))
    rows = [
        (
            pair.query,
            shorten(pair.document, _SHOWN, placeholder=" ..."),
            *(f"{graph.reference_logits[index]:.4f}" for graph in graphs),
        )
        for index, pair in enumerate(report.manifest.reference_pairs)
    ]
    return f"<div class='pairs'>{_table(columns, rows, right=columns[2:])}</div>"


def _file_rows(report: ModelReport) -> list[tuple[str, str, str]]:
    return [(record.path, f"{record.size:,}", record.sha256) for record in report.manifest.files]
