"""Whether contenders give the same scores: without that, a comparison of their times says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.benchmarks.peers.worker_process import WorkerError
from crossrank.export.verify.fidelity import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.peers.held_worker import HeldWorker


def compare_scores(
    workload: Workload, workers: Mapping[str, HeldWorker], loads: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Scores of every contender against the first's, on the scale of probabilities.

    Args:
        workload: what is scored.
        workers: loaded contenders, the reference first.
        loads: what each said on loading: `scale` is 'logit' or 'probability'.

    Returns:
        The reference's name, and for every other the largest difference of a sigmoid score, and Kendall's tau.
    """
    reference: npt.NDArray[np.float64] | None = None
    result: dict[str, Any] = {"workload": workload.name, "contenders": {}}
    for name, worker in workers.items():
        try:
            found = as_probabilities(worker.scores(workload), loads[name]["scale"])
            worker.rest()
        except WorkerError as error:
            result["contenders"][name] = {"failed": str(error)}
            continue
        if reference is None:
            reference, result["reference"] = found, name
            continue
        result["contenders"][name] = {
            "largest_difference": float(np.max(np.abs(found - reference), initial=0.0)),
            "kendall_tau": kendall_tau(reference, found),
        }
    return result


def as_probabilities(scores: list[float], scale: str) -> npt.NDArray[np.float64]:
    """Scores on the scale of probabilities: the sigmoid of logits, float64 (n,)."""
    values = np.asarray(scores, dtype=np.float64)
    return values if scale == "probability" else 1.0 / (1.0 + np.exp(-values))
