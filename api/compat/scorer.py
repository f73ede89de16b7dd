"""The engine as `CrossEncoder` needs it: logits of pairs, with a progress bar where one is wanted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from crossrank.engine.artifact_reranker import ArtifactReranker
from crossrank.engine.call.arguments import name_in
from crossrank.engine.call.calls import pairs_call
from crossrank.engine.call.drivers import wait_in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from crossrank.compat.inputs import Pairs
    from crossrank.engine.call.model import ScoringModel

_log = logging.getLogger("crossrank")


class PairScorer(ArtifactReranker):
    """Gives logits. Where something is cut nobody is warned: sentence-transformers does not warn either."""

    def logits(
        self, pairs: Pairs, labels: int, steps: Sequence[npt.NDArray[np.int64]], show_progress_bar: bool | None
    ) -> npt.NDArray[np.float32]:
        """Logits of pairs, float32 (n, labels). Two labels take two runs: a call has one number for each pair.

        Args:
            pairs: n pairs.
            labels: how many the model has.
            steps: for each step of a progress bar its pairs, all n together.
            show_progress_bar: whether to show one; None shows it where the logger 'crossrank' logs INFO or DEBUG.

        Raises:
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        if show_progress_bar is None:
            show_progress_bar = _log.getEffectiveLevel() in (logging.INFO, logging.DEBUG)
        if not show_progress_bar:
            return self._all_logits(pairs, labels)
        from tqdm.auto import tqdm

        logits = np.empty((len(pairs), labels), dtype=np.float32)
        for step in tqdm(steps, desc="Batches"):
            logits[step] = self._all_logits([pairs[index] for index in step.tolist()], labels)
        return logits

    def check_open(self) -> None:
        """Refuse to go on where there is nothing to score that would notice that the model is closed.

        Raises:
            ClosedError: `close` was called.
        """
        self._caller()

    def _all_logits(self, pairs: Pairs, labels: int) -> npt.NDArray[np.float32]:
        columns = []
        for label in range(labels):
            caller = self._caller()
            call = pairs_call(caller._replace(model=_OneLabel(caller.model, label)), pairs)
            columns.append(call.complete_logits(wait_in_thread(call.scores(), call.encoders), name_in("inputs")))
        return np.stack(columns, axis=1)


class _OneLabel:
    """A model of which one output counts. It keeps no scores: a score cache would not tell the labels apart."""

    def __init__(self, model: ScoringModel, label: int) -> None:
        self.finder = model.finder
        self.documents_at_once = model.documents_at_once
        self.scheduler = model.scheduler
        self._label = label

    def relevance(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return outputs[:, self._label]

    def activated(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return logits
