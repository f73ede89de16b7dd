"""Silencing torch, transformers, optimum and the hub client while crossrank works, and only then.

Every switch is put back afterwards: a library must not change the logging of the program that uses it.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOUD = ("torch.onnx", "transformers", "optimum", "onnxruntime", "onnxscript")


@contextlib.contextmanager
def quiet_downloads() -> Iterator[None]:
    """Without the hub client's progress bars, since the export has a progress display of its own.

    Nor does version 2 warn of patterns that match no file: some files are asked for in case they are there.
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    snapshots, disabled = logging.getLogger("huggingface_hub._snapshot_download"), are_progress_bars_disabled()
    snapshots.addFilter(_is_of_use)
    if not disabled:
        disable_progress_bars()
    try:
        yield
    finally:
        snapshots.removeFilter(_is_of_use)
        if not disabled:
            enable_progress_bars()


def _is_of_use(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("No files matched")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Without Python warnings, log records below errors, and transformers' progress bars.

    The warnings concern the TorchScript exporter (its deprecation, values it keeps as constants); whether those
    constants are right is what the verification of every export finds out.
    """
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
