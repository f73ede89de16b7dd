"""Loading a checkpoint as a PyTorch model: in float32, complete, and in the form the ONNX exporter can follow."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.modular_model import with_head
from crossrank.export.checkpoint.newer_config import installed_transformers
from crossrank.export.checkpoint.quiet import quiet_libraries
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crossrank.export.checkpoint.checkpoint import Checkpoint

SEGMENTS = "token_type_ids"

_COPIED_CODE = "transformers_modules."
"""Begins the name of every module that transformers makes of a checkpoint's own code."""

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
_COMPUTED = ("position_ids", "inv_freq", "masked_bias")
"""Ends of the names of tables that older versions stored and that follow from the configuration."""

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
            # Or outputs come as a tuple, in which they have no names.
            config.return_dict, config.torchscript = True, False
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
    _refuse_unused(loading["unexpected_keys"], model, checkpoint)
    return model.eval()


def _refuse_unused(unexpected: Iterable[str], model: Any, checkpoint: Checkpoint) -> None:
    """Refuse weights that transformers leaves out and that the model was trained with.

    Those lie within a layer or a head that the model has: of an adapter that was not merged, or of a setting that
    another version of the class has. Other heads, and layers behind those that `config.json` asks for, do no harm.

    Raises:
        UnsupportedCheckpointError: there are such weights.
    """
    layers = checkpoint.architecture.num_hidden_layers
    heads = {name for name, module in model.named_children() if any(True for _ in module.parameters())}
    heads.discard(model.base_model_prefix)

    def counts(name: str) -> bool:
        layer = _LAYER.search(name)
        if name.endswith(_COMPUTED):
            return False
        return int(layer[1]) < layers if layer else not checkpoint.head and name.partition(".")[0] in heads

    unused = sorted(name for name in unexpected if counts(name))
    shown = f"{', '.join(unused[:5])}{', ...' if len(unused) > 5 else ''}"  # noqa: PLR2004
    if unused:
        raise UnsupportedCheckpointError(
            f"{checkpoint.source.id} has weights that {type(model).__name__} of transformers "
            f"{installed_transformers()} does not use: {shown}. Without them its scores would "
            f"not be those it was trained for: merge an adapter into the model and save it again, or install the "
            f"version of transformers that saved the checkpoint"
        )


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
