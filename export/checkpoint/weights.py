"""The weight files of a checkpoint: which ones count, and whether they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.head_modules import MODULE_WEIGHTS
from crossrank.export.checkpoint.json_files import read_json, shown
from crossrank.export.checkpoint.source import refuse_pointer
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from crossrank.export.checkpoint.head_modules import HeadModule
    from crossrank.export.checkpoint.source import CheckpointSource

_SINGLE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ADAPTER = ("adapter_config.json", "adapter_model.*")


def find_weights(folder: Path) -> list[Path]:
    """The files transformers would load weights from: safetensors before .bin, shards by their index.

    Raises:
        UnsupportedCheckpointError: there are none, or a shard the index names is missing or left to Git LFS.
    """
    paths = _listed_weights(folder)
    for path in paths:
        refuse_pointer(path)
    return paths


def weight_digests(folder: Path, head: Iterable[HeadModule] = ()) -> dict[str, str]:
    """The sha256 of every weight file of a checkpoint, by its path in the folder.

    Args:
        folder: the checkpoint.
        head: the modules behind its transformer.

    Raises:
        UnsupportedCheckpointError: as `find_weights`.
    """
    modules = [folder / module.path / MODULE_WEIGHTS for module in head if module.kind != "Pooling"]
    paths = (*find_weights(folder), *modules)
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}


def refuse_adapter(where: CheckpointSource) -> None:
    """Refuse an adapter; of a hub checkpoint its weights are there only once weights were fetched.

    Args:
        where: the checkpoint.

    Raises:
        UnsupportedCheckpointError: there is one.
    """
    found = next((path.name for pattern in _ADAPTER for path in sorted(where.folder.glob(pattern))), None)
    if found is not None:
        raise UnsupportedCheckpointError(
            f"{where.id} holds an adapter ({found}), which may or may not be in its weights already; merge it "
            f"into its base model and save that alone"
        )


def refuse_quantized(where: CheckpointSource, config: Mapping[str, Any]) -> None:
    """Refuse weights that are not in floating point.

    Args:
        where: the checkpoint.
        config: its `config.json`.

    Raises:
        UnsupportedCheckpointError: the weights are quantized.
    """
    quantization = config.get("quantization_config")
    if quantization:
        raise UnsupportedCheckpointError(
            f"{where.id} has quantized weights (quantization_config {shown(quantization)}); crossrank exports from "
            f"float weights: name the checkpoint it was made from"
        )


def _listed_weights(folder: Path) -> list[Path]:
    for name in _SINGLE_WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = read_json(folder / f"{name}.index.json")
        if index:
            parts = index.get("weight_map", {})
            if not isinstance(parts, dict):
                raise UnsupportedCheckpointError(
                    f"{folder / name}.index.json has the weight_map {shown(parts)}; "
                    f"expected an object that names the file of each weight"
                )
            shards = sorted({str(shard) for shard in parts.values()})
            missing = [shard for shard in shards if not (folder / shard).is_file()]
            if missing or not shards:
                raise UnsupportedCheckpointError(f"{folder} lacks weight files its index names: {', '.join(missing)}")
            return [folder / shard for shard in shards]
    raise UnsupportedCheckpointError(
        f"{folder} has no weights; expected model.safetensors or pytorch_model.bin (or their shards)"
    )
