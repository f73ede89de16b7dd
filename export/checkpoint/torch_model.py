"""Loading a checkpoint as a PyTorch model: in float32, complete, and in the form the ONNX exporter can follow."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.modular_model import with_head
from crossrank.export.checkpoint.newer_config import installed_transformers
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from crossrank.export.checkpoint.checkpoint import Checkpoint

SEGMENTS = "token_type_ids"

_COPIED_CODE = "transformers_modules."
"""Begins the name of every module that transformers makes of a checkpoint's own code."""

_FIRST_WITH_DTYPE = Version("4.56")
"""Of transformers: earlier ones call the option `torch_dtype`."""


def has_one_segment(model: Any) -> bool:
    """Whether a model has a single segment embedding, so that segment ids mean nothing to it.

    Tokenizers of its family may number two all the same, and the second has no embedding.
    """
    return getattr(model.config, "type_vocab_size", None) == 1


def load_torch_model(checkpoint: Checkpoint, *, for_export: bool = True) -> Any:
    """The checkpoint as a PyTorch model in evaluation mode, its weights in float32.

    Args:
        checkpoint: what to load.
        for_export: as for `load_transformer`.

    Raises:
        UnsupportedCheckpointError: it cannot be loaded, or weights of it are missing.
    """
    transformer = load_transformer(checkpoint, for_export=for_export)
    return with_head(transformer, checkpoint.head, checkpoint.folder) if checkpoint.head else transformer


def load_transformer(checkpoint: Checkpoint, *, for_export: bool = True) -> Any:
    """The checkpoint's transformer: with its classification head, or without one where modules follow it.

    Args:
        checkpoint: what to load.
        for_export: in the form of attention that the ONNX exporters and our fusion follow; otherwise in the
            one transformers chooses by default, as users of the checkpoint run it.

    Raises:
        UnsupportedCheckpointError: transformers cannot load it, takes code of another checkpoint for it, or weights of
            it are missing (transformers would fill those with random numbers).
    """
    import torch
    from transformers import AutoConfig

    model_type = checkpoint.architecture.model_type
    installed = installed_transformers()
    before_dtype = installed is not None and installed < _FIRST_WITH_DTYPE
    options: dict[str, Any] = {"torch_dtype" if before_dtype else "dtype": torch.float32}
    if for_export:
        # The form every family offers (ELECTRA and DeBERTa-v2 no other), in which products and masks are apart.
        options["attn_implementation"] = "eager"
    try:
        with quiet_libraries():
            config = AutoConfig.from_pretrained(
                checkpoint.folder, local_files_only=True, trust_remote_code=checkpoint.trust_remote_code
            )
            for key, value in checkpoint.config_changes.values.items():
                setattr(config, key, value)
            if model_type == "modernbert":
                config.reference_compile = False
            model, loading = _auto_class(checkpoint).from_pretrained(
                checkpoint.folder,
                config=config,
                local_files_only=True,
                trust_remote_code=checkpoint.trust_remote_code,
                output_loading_info=True,
                **options,
            )
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a disk error, to which the export's message adds what to do
        # safetensors, pickle and transformers each raise errors of their own over damaged weights.
        raise UnsupportedCheckpointError(f"transformers cannot load {checkpoint.folder}: {error}") from error
    _check_code(model, checkpoint)
    missing = set(loading["missing_keys"])
    if checkpoint.head and getattr(model, "pooler", None) is not None:
        # The modules pool; what the class would pool with besides is not read.
        model.pooler = None
        missing = {name for name in missing if not name.startswith("pooler.")}
    lacking = sorted(missing) + sorted(str(key[0]) for key in loading["mismatched_keys"])
    if lacking:
        raise UnsupportedCheckpointError(
            f"{checkpoint.source.id} lacks weights its architecture needs, or has them in another shape: "
            f"{', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}"  # noqa: PLR2004
        )
    return model.eval()


def _check_code(model: Any, checkpoint: Checkpoint) -> None:
    """Refuse a model that runs other code than the checkpoint's own.

    transformers 5 remembers, for the rest of the process, the model class that it first loaded for a configuration
    class: a second checkpoint with the same configuration code and other model code would be given the first one's.
    """
    own = set(checkpoint.source.code_sha256.values())
    for kind in type(model).__mro__:
        if own and kind.__module__.startswith(_COPIED_CODE) and sha256_of(Path(inspect.getfile(kind))) not in own:
            raise UnsupportedCheckpointError(
                f"transformers gives {checkpoint.source.id} the class {kind.__name__} of a checkpoint with other code "
                f"that this process loaded before; export {checkpoint.source.id} in a process of its own"
            )


def _auto_class(checkpoint: Checkpoint) -> Any:
    """The class of transformers with the head that the score is made of."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

    if checkpoint.answers:
        return AutoModelForCausalLM
    return AutoModel if checkpoint.head else AutoModelForSequenceClassification
