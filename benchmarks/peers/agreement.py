"""Whether contenders give the same scores; only then can their times be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.benchmarks.peers.worker_process import WorkerError
from crossrank.export.verify.fidelity import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.peers.restartable_worker import RestartableWorker


def compare_scores(
    workload: Workload, workers: Mapping[str, RestartableWorker], loads: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Compare the scores of every contender with those of the first, as probabilities.

    Args:
        workload: what is scored.
        workers: loaded contenders, the reference first.
        loads: what each reported when it loaded; `scale` is 'logit' or 'probability'.

    Returns:
        The reference's name, and for every other contender the largest difference of a sigmoid score and Kendall's tau.
    """
    reference: npt.NDArray[np.float64] | None = None
    result: dict[str, Any] = {"workload": workload.name, "contenders": {}}
    for name, worker in workers.items():
        try:
            scores = as_probabilities(worker.scores(workload), loads[name]["scale"])
            worker.end_turn()
        except WorkerError as error:
            result["contenders"][name] = {"failed": str(error)}
            continue
        if reference is None:
            reference, result["reference"] = scores, name
            continue
        result["contenders"][name] = {
            "largest_difference": float(np.max(np.abs(scores - reference), initial=0.0)),
            "kendall_tau": kendall_tau(reference, scores),
        }
    return result


def as_probabilities(scores: list[float], scale: str) -> npt.NDArray[np.float64]:
    """Scores as probabilities, float64 (n,): the sigmoid of logits, probabilities as they are."""
    values = np.asarray(scores, dtype=np.float64)
    return values if scale == "probability" else 1.0 / (1.0 + np.exp(-values))
