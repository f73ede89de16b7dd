"""`CrossEncoder`: `predict` and `rank` with the signatures of sentence-transformers 6.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossrank.compat.activations import ActivationFn, checked_activation, scores_of
from crossrank.compat.inputs import Pairs, batches_of, candidate_pairs, chosen_prompt, read_pairs
from crossrank.compat.open_cross_encoder import OpenCrossEncoder
from crossrank.compat.tensors import as_array, as_tensor, require_torch
from crossrank.engine.argument_checks import whole_number
from crossrank.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable


class CrossEncoder(OpenCrossEncoder):
    """Scores pairs as sentence-transformers' `CrossEncoder` does, with crossrank's engine.

    Example:
        >>> from crossrank.compat import CrossEncoder
        >>> model = CrossEncoder("cross-encoder/ms-marco-MiniLM-L6-v2")  # doctest: +SKIP
        >>> model.predict([("how do vaccines work", "They train immune cells.")])  # doctest: +SKIP
    """

    def predict(  # noqa: PLR0913, PLR0917  sentence-transformers' signature
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: ActivationFn | None = None,
        apply_softmax: bool | None = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        device: Any = None,
        pool: None = None,
        chunk_size: None = None,
    ) -> Any:
        """Score pairs.

        Args:
            inputs: (query, document) pairs, lists or tuples, or an array of strings (n, 2); or one pair by itself.
            prompt_name: which prompt goes before the queries.
            prompt: a text that goes before the queries.
            batch_size: pairs that a function given as `activation_fn` sees at once, and steps of the progress bar. How
                pairs are put together for scoring is crossrank's affair, and changes no score.
            show_progress_bar: whether to show one; None shows it where the logger 'crossrank' logs INFO or DEBUG.
            activation_fn: what is applied to the logits, (b, labels); None takes the model's.
            apply_softmax: whether a softmax over the labels follows.
            convert_to_numpy: whether to give an array, or else a list of tensors.
            convert_to_tensor: whether to give one tensor, whatever `convert_to_numpy`.
            device: None, or what it is already.
            pool: None.
            chunk_size: None.

        Returns:
            float32 (n,), or (n, 2) of a model with two labels, which takes twice the time; of one pair by itself a
            float32, or (2,); of none an empty array, which is float64 as in sentence-transformers. Tensors are on the
            CPU.

        Raises:
            InvalidInputError: an input is no pair of strings, or an option is not supported.
            MissingDependencyError: tensors are asked for and torch is not installed.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        batch_size = whole_number("batch_size", batch_size, 1)
        self._check_place(device, pool, chunk_size)
        if not convert_to_numpy or convert_to_tensor:
            require_torch(f"convert_to_tensor={convert_to_tensor}, convert_to_numpy={convert_to_numpy}")
        pairs, alone = read_pairs(inputs)
        pairs = self._prompted(pairs, prompt, prompt_name)
        scores = self._scores(pairs, batch_size, show_progress_bar, activation_fn, apply_softmax=bool(apply_softmax))
        if convert_to_tensor:
            scores = as_tensor(scores)
        elif convert_to_numpy:
            scores = as_array(scores) if pairs else np.array([])
        else:
            scores = list(as_tensor(scores))
        return scores[0] if alone else scores

    def rank(  # noqa: PLR0913, PLR0917  sentence-transformers' signature
        self,
        query: str,
        documents: Iterable[str],
        top_k: int | None = None,
        return_documents: bool = False,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        activation_fn: ActivationFn | None = None,
        device: Any = None,
        pool: None = None,
        chunk_size: None = None,
    ) -> list[dict[Literal["corpus_id", "score", "text"], Any]]:
        """Order documents by their score for a query, best first; equal ones keep their order.

        Args:
            query: the query.
            documents: strings.
            top_k: how many to return at most; None returns all.
            return_documents: whether to return the documents, as 'text'.
            prompt_name: as for `predict`, likewise the others.
            prompt: a text that goes before the query.
            batch_size: pairs that a function given as `activation_fn` sees at once, and steps of the progress bar.
            show_progress_bar: whether to show one.
            activation_fn: what is applied to the logits.
            device: None, or what it is already.
            pool: None.
            chunk_size: None.

        Returns:
            For each document 'corpus_id', its place in `documents`; 'score'; and 'text' where wanted.

        Raises:
            InvalidInputError: the model has two labels, a document is no string, or an option is not supported.
            InferenceError: onnxruntime failed.
            ClosedError: `close` was called.
        """
        if self._num_labels != 1:
            raise InvalidInputError(
                f"rank() of a model with {self._num_labels} labels: one expected; use predict() with pairs"
            )
        batch_size = whole_number("batch_size", batch_size, 1)
        top_k = None if top_k is None else whole_number("top_k", top_k, 0, otherwise=", or None for all")
        self._check_place(device, pool, chunk_size)
        pairs, items = candidate_pairs(query, documents)
        pairs = self._prompted(pairs, prompt, prompt_name)
        scores = self._scores(pairs, batch_size, show_progress_bar, activation_fn, apply_softmax=False)
        if scores.ndim > 1:
            raise InvalidInputError(
                f"activation_fn gives {scores.shape[1]} numbers for a document: one expected to rank by"
            )
        results: list[dict[Literal["corpus_id", "score", "text"], Any]] = [
            {"corpus_id": index, "score": score, **({"text": items[index]} if return_documents else {})}
            for index, score in enumerate(scores.tolist())
        ]
        return sorted(results, key=lambda result: result["score"], reverse=True)[:top_k]

    def _scores(
        self,
        pairs: Pairs,
        batch_size: int,
        show_progress_bar: bool | None,
        activation_fn: ActivationFn | None,
        *,
        apply_softmax: bool,
    ) -> Any:
        """Scores in the pairs' order, an array or a tensor."""
        checked_activation(activation_fn)
        if not pairs:
            self._scorer.check_open()
            return np.empty(0, dtype=np.float32)
        activation = self.activation_fn if activation_fn is None else activation_fn
        if activation is None:
            raise InvalidInputError(
                f"this model has {self._num_labels} labels, and its artifact does not keep if the checkpoint names "
                "an activation for them: state activation_fn; torch.nn.Identity() is what sentence-transformers takes "
                "where the checkpoint names none"
            )
        batches = batches_of(pairs, batch_size)
        logits = self._scorer.logits(pairs, self._num_labels, batches, show_progress_bar)
        return scores_of(logits, activation, batches, apply_softmax=apply_softmax)

    def _prompted(self, pairs: Pairs, prompt: str | None, prompt_name: str | None) -> Pairs:
        text = chosen_prompt(self._prompts, self._default_prompt_name, prompt, prompt_name)
        return [(text + query, document) for query, document in pairs] if text else pairs

    def _check_place(self, device: object, pool: object, chunk_size: object) -> None:
        if pool is not None or chunk_size is not None or isinstance(device, list):
            raise InvalidInputError(
                "pool, chunk_size or a list as device: crossrank uses all cores within one process; leave them out"
            )
        if device is not None and str(device) not in {self.device, self.device.removesuffix(":0")}:
            raise InvalidInputError(
                f"device={device!r:.100}: this model is on {self.device!r} and stays there; give the device to the "
                "constructor"
            )
