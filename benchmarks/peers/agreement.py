"""Whether contenders give the same scores; only then can their times be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossrank.benchmarks.peers.comparison_figures import Agreement, Failure, ScoreAgreement
from crossrank.benchmarks.peers.worker_process import WorkerError
from crossrank.export.verify.fidelity import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from crossrank.benchmarks.harness.workloads import Workload
    from crossrank.benchmarks.peers.restartable_worker import RestartableWorker
    from crossrank.benchmarks.peers.worker_process import Scale


def compare_scores(workload: Workload, workers: Mapping[str, RestartableWorker]) -> Agreement:
    """Compare the scores of every contender with those of the first, as probabilities.

    Args:
        workload: what is scored.
        workers: loaded contenders, the reference first.
    """
    reference: npt.NDArray[np.float64] | None = None
    reference_name: str | None = None
    contenders: dict[str, ScoreAgreement | Failure] = {}
    for name, worker in workers.items():
        try:
            scores = as_probabilities(worker.scores(workload), worker.loaded.scale)
            worker.end_turn()
        except WorkerError as error:
            contenders[name] = Failure(str(error))
            continue
        if reference is None:
            reference, reference_name = scores, name
            continue
        difference = float(np.max(np.abs(scores - reference), initial=0.0))
        contenders[name] = ScoreAgreement(difference, kendall_tau(reference, scores))
    return Agreement(workload.name, reference_name, contenders)


def as_probabilities(scores: list[float], scale: Scale) -> npt.NDArray[np.float64]:
    """Scores as probabilities, float64 (n,): the sigmoid of logits, probabilities as they are."""
    values = np.asarray(scores, dtype=np.float64)
    return values if scale == "probability" else 1.0 / (1.0 + np.exp(-values))
