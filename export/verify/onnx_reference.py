"""The scores an imported ONNX file gives by itself: run by onnxruntime as it came, one pair a run.

Token ids come from the complete tokenizer configuration: by transformers where it is installed and reads the folder,
otherwise by tokenizers' own pair encoding and truncation.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import MissingDependencyError, UnsupportedCheckpointError
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.export.verify.reference import log_odds
from crossrank.export.verify.reference_tokenizer import load_reference_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from crossrank.export.checkpoint.checkpoint import Checkpoint
    from crossrank.export.graph.score_output import ScoreOutput


class OnnxReference:
    """Scores pairs with an ONNX file as it came."""

    cuts_longer_text = False

    def __init__(self, file: Path, checkpoint: Checkpoint, output: ScoreOutput, column: int | None) -> None:
        """Load the file.

        Args:
            file: the ONNX file, its external data beside it.
            checkpoint: its tokenizer, labels and lengths.
            output: what its output is.
            column: the column that was picked of two that do not exclude each other; None where none was.

        Raises:
            UnsupportedCheckpointError: onnxruntime cannot load it.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # onnxruntime's errors have no common base but Exception.
            raise UnsupportedCheckpointError(f"onnxruntime cannot load {file}: {error}") from error
        self._file = file
        self._checkpoint = checkpoint
        self._output = output
        self._column = column
        self._tokenizer, self._way = _load_tokenizer(checkpoint)

    @property
    def description(self) -> str:
        """The version of onnxruntime, and how texts become token ids."""
        return f"the ONNX file as it came, by onnxruntime {_runtime_version()}, ids by {self._way}"

    def token_ids(self, pair: tuple[str, str]) -> tuple[list[int], list[int] | None]:
        """Token ids of one pair, and its segment ids where the tokenizer gives any."""
        ids, types = self._tokenizer(pair)
        return ids, types

    def logits(
        self, pairs: Sequence[tuple[str, str]], *, advance: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """What the file gives for each pair, to be compared with `as_in_file` of the engine's logits.

        Raises:
            UnsupportedCheckpointError: it fails on a pair.
        """
        rows = []
        for index, pair in enumerate(pairs):
            ids, types = self._tokenizer(pair)
            rows.append(np.asarray(self._run(pair, ids, types), np.float32).reshape(-1))
            if advance is not None:
                advance(index + 1, len(pairs))
        outputs = np.stack(rows) if rows else np.empty((0, 1), np.float32)
        return self._one_column(outputs)

    def as_in_file(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The engine's logits as the file gives them: through the activation that was inside it."""
        if self._output.activation == "sigmoid" or self._output.operator == "Softmax":
            with np.errstate(over="ignore"):
                return np.asarray(1.0 / (1.0 + np.exp(-logits.astype(np.float64))), dtype=np.float32)
        return logits

    def _run(self, pair: tuple[str, str], ids: list[int], types: list[int] | None) -> Any:
        try:
            return self._session.run(None, self._feeds(ids, types))[0]
        except Exception as error:
            # onnxruntime's errors have no common base but Exception.
            raise UnsupportedCheckpointError(
                f"{self._file} itself fails on the pair {pair[0]!r:.60}, {pair[1]!r:.60}, which is {len(ids)} tokens "
                f"with ids up to {max(ids)}: {error}; its tokenizer, or the length its configuration states, is not "
                f"that of the file"
            ) from error

    def _one_column(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        positive = self._checkpoint.positive_label
        if self._column is not None:
            return outputs[:, self._column]
        if outputs.shape[1] == 1:
            return outputs[:, 0]
        if self._output.operator == "Softmax" and self._output.activation == "softmax":
            return outputs[:, positive]
        return log_odds(outputs, positive)

    def _feeds(self, ids: list[int], types: list[int] | None) -> dict[str, NDArray[np.integer[Any]]]:
        rows = {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "token_type_ids": types if types is not None else [0] * len(ids),
        }
        kinds = {"tensor(int32)": np.int32}
        return {
            item.name: np.asarray([rows[item.name]], dtype=kinds.get(item.type, np.int64))
            for item in self._session.get_inputs()
        }


def _load_tokenizer(checkpoint: Checkpoint) -> tuple[Callable[[tuple[str, str]], Any], str]:
    try:
        tokenizer, way = load_reference_tokenizer(checkpoint)
    except (MissingDependencyError, ImportError, UnsupportedCheckpointError):
        return _by_tokenizers(checkpoint), "tokenizer.json with the settings laid over it"

    def encode(pair: tuple[str, str]) -> tuple[list[int], list[int] | None]:
        with quiet_libraries():
            encoded = tokenizer(
                [pair[0]],
                [pair[1]],
                truncation="only_second",
                max_length=checkpoint.max_length,
                # Where no file names a class, transformers 5 leaves them out unless asked.
                return_token_type_ids=checkpoint.uses_segment_ids or None,
            )
        # As for a checkpoint: a model of one segment has no embedding for a second.
        types = None if checkpoint.config.get("type_vocab_size") == 1 else encoded.get("token_type_ids")
        return encoded["input_ids"][0], types[0] if types else None

    return encode, f"transformers {importlib.metadata.version('transformers')} {way}"


def _by_tokenizers(checkpoint: Checkpoint) -> Callable[[tuple[str, str]], Any]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(checkpoint.tokenizer.to_str())
    tokenizer.enable_truncation(checkpoint.max_length, strategy="only_second")

    def encode(pair: tuple[str, str]) -> tuple[list[int], list[int] | None]:
        encoding = tokenizer.encode(*pair)
        return encoding.ids, encoding.type_ids

    return encode


def _runtime_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
