"""The benchmark of HTTP services: what becomes of requests, and the figures as file, table and plot."""

import asyncio
import sys

import pytest

from crossrank.benchmarks.harness.environment import describe_run
from crossrank.benchmarks.harness.json_text import json_of, value_of
from crossrank.benchmarks.harness.sampling import Percentiles
from crossrank.benchmarks.harness.workloads import Workload
from crossrank.benchmarks.load.http_client import HttpClient
from crossrank.benchmarks.load.http_figures import HttpFigures, HttpPoint, ServiceLoad
from crossrank.benchmarks.load.http_load import free_port, open_loop, started

TEXTS = Workload("w", "400 documents", "a query", tuple(f"text {index}" for index in range(400)), (8,) * 400)


@pytest.mark.parametrize(("path", "kind"), [("/v2/rerank", "ok"), ("/nowhere", "404")])
def test_every_request_is_counted_by_how_it_ended(path, kind):
    port = free_port()
    with started([sys.executable, "-m", "crossrank.benchmarks.load.stub_service", str(port)], port, "/ready") as stub:

        async def measure():
            client = HttpClient(port, path)
            point = await open_loop(client, TEXTS, stub, load=0.5, saturated=2000, seconds=0.5)
            await client.close()
            return point

        point = asyncio.run(measure())
    assert point.requests > 0
    assert point.kinds == {kind: point.requests, "late": 0}
    assert (point.latency is not None, point.done_pairs_per_second > 0) == ((kind == "ok"),) * 2
    assert 0 < point.memory_mb[0] <= point.memory_mb[1]


def test_figures_are_read_back_and_shown(tmp_path):
    point = {"offered_pairs_per_second": 50.0, "done_pairs_per_second": 40.0, "memory_mb": (90.0, 101.0)}
    kinds = {"ok": 6, "shed": 3, "late": 1}
    points = (
        HttpPoint(load=0.5, requests=10, latency=Percentiles(0.1, 0.2, 0.3), kinds=kinds, **point),
        HttpPoint(load=2, requests=4, latency=None, kinds={"500": 4}, **point),
    )
    figures = HttpFigures({"crossrank": ServiceLoad(describe_run(), 100.0, points)})
    assert value_of(HttpFigures, json_of(figures)) == figures
    first, second = figures.tables()[0].rows
    assert first == ("crossrank", "50%", "50", "40", "100", "200", "300", "10", "30%", "10%", "90 to 101")
    assert second[4:] == ("", "", "", "4", "0%", "100%", "90 to 101")
    (plot,) = figures.write_plots(tmp_path)
    assert plot.read_bytes().startswith(b"\x89PNG")
