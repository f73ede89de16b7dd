"""The result of `crossrank bench` as tables, for a terminal and for markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.evaluation.report_table import ReportTable, milliseconds

if TYPE_CHECKING:
    from collections.abc import Mapping


def report_tables(result: Mapping[str, Any]) -> list[ReportTable]:
    """Every table that the result has figures for.

    Args:
        result: what `run_benchmark` returned.
    """
    tables = [conditions_table(result)]
    if result.get("latency"):
        tables.append(_latency(result["latency"]))
    if "comparison" in result:
        comparison = result["comparison"]
        tables.extend(_scenario(scenario, comparison["contenders"]) for scenario in comparison["scenarios"])
        tables.append(_contenders(comparison))
    if "roofline" in result:
        tables.append(_roofline(result["roofline"]))
    if result.get("long_documents"):
        tables.append(_long_documents(result["long_documents"]))
        tables.append(_window_times(result["window_times"]))
    if result.get("deadlines"):
        tables += [_deadlines(figures) for figures in result["deadlines"]]
    return tables


def conditions_table(result: Mapping[str, Any]) -> ReportTable:
    """The conditions that a result was measured under.

    Args:
        result: what `run_benchmark` or `run_load_benchmark` returned.
    """
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    rows = [
        ("date", result["date"]),
        (
            "processor",
            f"{machine['cpu']}, {machine['cores']} cores, {', '.join(machine['cpu_features']) or 'no'} vectors",
        ),
        ("memory", f"{machine['memory_gib']} GiB"),
        ("system", machine["system"]),
        *_gpu(result),
        ("versions", versions),
        ("load before", " ".join(str(value) for value in result["load_average_before"])),
        ("text", f"{result['text']['source']} (sha256 {result['text']['sha256'][:12]})"),
    ]
    for precision, artifact in result["artifacts"].items():
        graph = artifact["graphs"][precision]
        passes = ", ".join(graph["passes"]) or "none recorded"
        rows.append((precision, f"{artifact['name']}, graph sha256 {graph['sha256'][:12]}, passes: {passes}"))
    rows.extend((precision, f"not measured: {reason}") for precision, reason in result["missing_precisions"].items())
    return ReportTable("Conditions", ("what", ""), tuple(rows))


def _gpu(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the conditions that describe the GPU; none on the CPU."""
    if "gpu" not in result:
        return []
    smi = result["gpu"]["nvidia_smi"]
    if "reason" in smi:
        return [("GPU", smi["reason"])]
    after = result.get("gpu_after", {}).get("nvidia_smi", {})
    clocks = f"SM {smi['clocks.sm']}, after {after.get('clocks.sm')} (at most {smi['clocks.max.sm']})"
    libraries = ", ".join(f"{name} {version}" for name, version in result["gpu"]["cuda_libraries"].items())
    return [
        ("GPU", f"{smi['name']}, {smi['memory.total']}, driver {smi['driver_version']}, limit {smi['power.limit']}"),
        ("GPU clocks", f"{clocks}, memory {smi['clocks.mem']}, {smi['temperature.gpu']} degrees before"),
        ("CUDA libraries", libraries or "none installed with pip"),
    ]


def _latency(rows: list[dict[str, Any]]) -> ReportTable:
    cells = tuple(
        (
            row["precision"],
            row["documents"],
            f"{row['mean_pair_tokens']:.0f}",
            str(row["top_k"]),
            *(milliseconds(row["latency"][name]) for name in ("p50", "p90", "p99")),
            str(row["latency"]["calls"]),
            f"{row['pairs_per_second']:.0f}",
        )
        for row in rows
    )
    columns = ("precision", "documents", "tokens a pair", "top-k", "p50 ms", "p90 ms", "p99 ms", "calls", "pairs/s")
    return ReportTable("Latency of rank(), text to ranking", columns, cells)


def _scenario(scenario: dict[str, Any], loads: Mapping[str, Any]) -> ReportTable:
    contenders = scenario["contenders"]
    references = [name for name, entry in contenders.items() if name.startswith("crossrank") and "failed" not in entry]
    rows = []
    for name, entry in contenders.items():
        if "failed" in entry:
            rows.append((loads[name]["title"], "failed", "", *("" for _ in references)))
            continue
        ratios = (_ratio(entry["times_as_long_as"].get(reference)) for reference in references)
        speed = f"{entry['pairs_per_second']:.1f}"
        rows.append((loads[name]["title"], milliseconds(entry["latency"]["p50"]), speed, *ratios))
    columns = ("contender", "median ms", "pairs/s", *(f"time / {reference}" for reference in references))
    note = f"{scenario['rounds']} rounds in turn; ratios are taken round by round: median (smallest-largest)." + (
        f" A round is the median of {scenario['calls']} calls." if scenario["calls"] > 1 else ""
    )
    return ReportTable(scenario["title"], columns, tuple(rows), note)


def _ratio(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return "1"
    return f"{ratio['median']:.2f} ({ratio['smallest']:.2f}-{ratio['largest']:.2f})"


def _contenders(comparison: Mapping[str, Any]) -> ReportTable:
    agreement = comparison["agreement"].get("contenders", {})
    rows = []
    for name, load in comparison["contenders"].items():
        if "failed" in load:
            rows.append((load["title"], "", "", "", "", load["failed"]))
            continue
        scores = agreement.get(name, {})
        versions = ", ".join(f"{package} {version}" for package, version in load["versions"].items())
        rows.append(
            (
                load["title"],
                f"{load['seconds']:.2f}",
                f"{load['peak_mib']:.0f}",
                f"{scores['largest_difference']:.1g}" if "largest_difference" in scores else "",
                f"{scores['kendall_tau']:.3f}" if "kendall_tau" in scores else "",
                scores.get("failed", versions),
            )
        )
    rows.extend((name, "", "", "", "", f"left out: {reason}") for name, reason in comparison.get("absent", {}).items())
    columns = ("contender", "load s", "peak MiB", "max |diff|", "tau", "reason" if not rows else "what")
    note = (
        f"Differences of sigmoid scores, and Kendall's tau, against {comparison['agreement'].get('reference', 'none')} "
        f"on {comparison['agreement'].get('workload', 'nothing')}."
    )
    return ReportTable("Contenders: load, memory over all scenarios, agreement of scores", columns, tuple(rows), note)


def _roofline(roofline: Mapping[str, Any]) -> ReportTable:
    cells = tuple(
        (
            row["precision"],
            str(row["pair_tokens"]),
            f"{row['operations_per_pair'] / 1e9:.3f}",
            milliseconds(row["seconds_per_pair"]),
            milliseconds(row["call_seconds_per_pair"]),
            f"{row['reached_operations_per_second'] / 1e9:.0f}",
            f"{row['ceiling_operations_per_second'] / 1e9:.0f}",
            f"{row['share']:.0%} ({min(row['shares']):.0%}-{max(row['shares']):.0%})",
        )
        for row in roofline["rows"]
    )
    columns = (
        "precision",
        "tokens a pair",
        "Gop a pair",
        "ms a pair",
        "with encoding",
        "Gop/s reached",
        "Gop/s ceiling",
        "share",
    )
    on_gpu = roofline.get("provider") == "cuda"
    machine = "One GPU" if on_gpu else f"{roofline['cores']} cores"
    note = (
        f"{machine}, {roofline['rounds']} rounds of ceiling and scoring in turn: medians; the share is taken round by "
        "round, with its smallest and largest value in brackets. Operations are those of the pruned model; the ceiling "
        "is the median over the matrix products of a layer."
    )
    return ReportTable("Share of the matrix-product ceiling", columns, cells, note)


def _long_documents(collections: list[dict[str, Any]]) -> ReportTable:
    ways = list(collections[0]["ways"])
    cells = tuple(
        (
            found["collection"],
            str(found["queries"]),
            *(f"{found['ways'][way]['ndcg']:.4f}" for way in ways),
            f"{found['ways'][ways[-1]]['windows']:.1f}",
        )
        for found in collections
    )
    note = f"Documents joined by fours; the first {collections[0]['depth']} of BM25's order reranked."
    return ReportTable("nDCG@10 on long documents", ("collection", "queries", *ways, "windows a document"), cells, note)


def _window_times(rows: list[dict[str, Any]]) -> ReportTable:
    cells = tuple(
        (
            str(row["windows"]),
            milliseconds(row["seconds"] / row["documents"]),
            milliseconds(row["seconds"] / row["documents"] / row["windows"]),
        )
        for row in rows
    )
    return ReportTable("Time by windows", ("windows a document", "ms a document", "ms a window"), cells)


def _deadlines(figures: dict[str, Any]) -> ReportTable:
    rows = [("first stage", "0 (first-stage order)", f"{figures['first_stage']:.4f}", "0", "", "", "")]
    for limit in figures["limits"]:
        over = limit.get("over_seconds")
        rows.append(
            (
                f"{limit['calls']} calls",
                "none" if limit["limit_ms"] is None else f"{limit['limit_ms']:g}",
                f"{limit['ndcg']:.4f}",
                f"{limit['scored']:.0f}",
                milliseconds(limit["seconds"]["p50"]),
                milliseconds(over["p99"]) if over else "",
                f"{limit['kept']:.1%}" if over else "",
            )
        )
    columns = ("what", "limit, ms", "nDCG@10", "scored", "time p50, ms", "over the limit p99, ms", "kept")
    note = (
        f"{figures['queries']} queries, {figures['candidates']} candidates each in first-stage order, "
        f"{figures['precision']}. Kept: calls that exceeded the limit by at most a tenth of it and the longest single "
        "run. Time over the limit is negative for calls that ended before it."
    )
    return ReportTable(f"Ranking under a time limit: {figures['collection']}", columns, tuple(rows), note)
