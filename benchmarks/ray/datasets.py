"""Pairs a second of a dataset scored by actors, against processes without Ray, and what Ray costs.

    python -m crossrank.benchmarks.ray.datasets --model default --rows 2000 --rounds 3

Contenders run in turn. Rates are of the time between the start of the first batch and the end of the last, so starting
actors and loading models is not part of them; it is shown by itself. CPU seconds depend least on who else uses the
machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from crossrank.benchmarks.ray.texts import LONGEST, SHORTEST, workload
from crossrank.integrations.ray.pair_scorer import PairScorer, PairScorerOptions
from crossrank.reranker import Reranker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WARM_UP = 64


@dataclass(frozen=True)
class Measured:
    """One run of a contender.

    Attributes:
        pairs_per_second: between the first batch's start and the last one's end.
        idle: share of that time in which workers had no batch, their mean.
        seconds_before: from the beginning of the job to the first batch.
        cpu: CPU seconds of the workers for 1000 pairs, what they do between two batches included.
        ray_cpu: CPU seconds of the driver and of Ray's own processes during the whole job.
        pss: MB of a worker, of which memory shared with other processes counts in part, their mean.
        rss: MB of a worker with all it shares, their mean.
    """

    pairs_per_second: float
    idle: float
    seconds_before: float
    cpu: float
    ray_cpu: float
    pss: float
    rss: float


class TimedScorer(PairScorer):
    """Keeps beside each score when its batch was scored, by which process and how large that was."""

    def __init__(self, options: PairScorerOptions) -> None:
        """Load the model, and run a few pairs, as the other contenders do."""
        super().__init__(options)
        self._reranker.score("warm", ["warm up"] * _WARM_UP)

    def __call__(self, batch: Any) -> Any:
        """Score a batch of NumPy arrays."""
        began, cpu_began = time.time(), time.process_time()
        scored = super().__call__(batch)
        ended, cpu_ended = time.time(), time.process_time()
        memory = psutil.Process().memory_full_info()
        rows = len(scored["score"])
        marks = {
            "pid": os.getpid(),
            "began": began,
            "ended": ended,
            "cpu_began": cpu_began,
            "cpu_ended": cpu_ended,
            "pss": memory.pss / 1e6,
            "rss": memory.rss / 1e6,
        }
        return {**scored, **{name: np.full(rows, value) for name, value in marks.items()}}


def plain(model: str, threads: int, documents: tuple[str, ...], query: str, batch: int) -> Measured:
    """Score in this process, which does nothing else."""
    job = time.time()
    with Reranker(model, provider="cpu", threads=threads) as reranker:
        reranker.score("warm", ["warm up"] * _WARM_UP)
        began, cpu = time.time(), time.process_time()
        for first in range(0, len(documents), batch):
            reranker.score_pairs([(query, document) for document in documents[first : first + batch]])
        seconds, cpu = time.time() - began, time.process_time() - cpu
        memory = psutil.Process().memory_full_info()
    count = len(documents)
    return Measured(count / seconds, 0.0, began - job, 1e3 * cpu / count, 0.0, memory.pss / 1e6, memory.rss / 1e6)


def in_new_process(call: Callable[..., Measured], *arguments: object) -> Measured:
    """What a function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def by_actors(dataset: Any, model: str, actors: int, cpus: int, batch: int) -> Measured:
    """Score a dataset with a pool of actors."""
    import ray

    job, ray_cpu = time.time(), _cpu_of_ray()
    table = dataset.map_batches(
        TimedScorer,
        fn_constructor_args=[PairScorerOptions(model=model)],
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=cpus,
        batch_size=batch,
        zero_copy_batch=True,
    ).to_pandas()
    ray_cpu = _cpu_of_ray() - ray_cpu
    calls = table.drop_duplicates(["pid", "began"])
    span = calls["ended"].max() - calls["began"].min()
    busy = (calls["ended"] - calls["began"]).sum()
    workers = calls.groupby("pid")
    cpu = (workers["cpu_ended"].max() - workers["cpu_began"].min()).sum()
    largest = workers[["pss", "rss"]].max().mean()
    return Measured(
        len(table) / span,
        1 - busy / (actors * span),
        calls["began"].min() - job,
        1e3 * cpu / len(table),
        ray_cpu,
        largest["pss"],
        largest["rss"],
    )


def _cpu_of_ray() -> float:
    """CPU seconds so far of this process and of Ray's own, the actors of a dataset left out."""
    own = psutil.Process()
    processes = [own, *own.children(recursive=True)]
    total = 0.0
    for process in processes:
        try:
            if not process.cmdline()[:1] or not process.cmdline()[0].startswith("ray::MapWorker"):
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def empty_actor() -> tuple[float, float]:
    """Memory of an actor that has loaded no model, in MB: PSS and RSS."""
    import ray

    def memory(batch: Any) -> Any:
        full = psutil.Process().memory_full_info()
        return {"pss": np.array([full.pss / 1e6]), "rss": np.array([full.rss / 1e6]), "of": batch["id"][:1]}

    (row,) = ray.data.range(1).map_batches(memory, num_cpus=1).take_all()
    return row["pss"], row["rss"]


def table_of(runs: dict[str, list[Measured]]) -> str:
    """Medians as a table; ratios are to the first contender, round by round, with smallest and largest."""
    reference = [run.pairs_per_second for run in next(iter(runs.values()))]
    titles = ["pairs/s", "ratio", "idle", "before the first batch, s", "CPU s for 1000 pairs"]
    titles += ["CPU s of driver and daemons", "PSS MB", "RSS MB"]
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for name, measured in runs.items():

        def median(field: str, measured: Sequence[Measured] = measured) -> float:
            return float(statistics.median(getattr(run, field) for run in measured))

        ratios = [run.pairs_per_second / own for run, own in zip(measured, reference, strict=True)]
        lines.append(
            f"| {name} | {median('pairs_per_second'):.0f} "
            f"| {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] | {median('idle'):.1%} "
            f"| {median('seconds_before'):.1f} | {median('cpu'):.2f} | {median('ray_cpu'):.1f} | {median('pss'):.0f} "
            f"| {median('rss'):.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    import ray

    parser = argparse.ArgumentParser(description="Ray Data against plain processes")
    parser.add_argument("--model", default="default")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    pairs = workload(options.rows)
    # Ray starts its workers with low priority, which on a busy machine would be measured instead.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=256 << 20, logging_level="warning")
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = [{"query": pairs.query, "document": document} for document in pairs.documents]
    blocks = max(2, options.rows // options.batch)
    dataset = ray.data.from_items(rows, override_num_blocks=blocks).materialize()
    texts = (pairs.documents, pairs.query, options.batch)
    contenders: dict[str, Callable[[], Measured]] = {
        "plain process, 1 thread": lambda: in_new_process(plain, options.model, 1, *texts),
        "1 actor of 1 CPU": lambda: by_actors(dataset, options.model, 1, 1, options.batch),
        "plain process, 2 threads": lambda: in_new_process(plain, options.model, 2, *texts),
        "1 actor of 2 CPUs": lambda: by_actors(dataset, options.model, 1, 2, options.batch),
        "2 actors of 1 CPU": lambda: by_actors(dataset, options.model, 2, 1, options.batch),
    }
    runs: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            runs[name].append(contender())
            print(name, runs[name][-1], flush=True)
    print(
        f"\n{options.model}, {options.rows} pairs of {SHORTEST} to {LONGEST} tokens, batches of {options.batch} rows, "
    )
    print(f"{options.rounds} rounds, ray {ray.__version__}, load {os.getloadavg()}\n")
    print(table_of(runs))
    pss, rss = empty_actor()
    print(f"\nA worker of Ray Data without a model: PSS {pss:.0f} MB, RSS {rss:.0f} MB")


if __name__ == "__main__":
    main()
