"""The weight files of a checkpoint: which ones count, and whether they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossrank.errors import UnsupportedCheckpointError
from crossrank.export.checkpoint.head_modules import MODULE_WEIGHTS
from crossrank.export.checkpoint.json_files import read_json, shown
from crossrank.export.checkpoint.source import refuse_pointer
from crossrank.models.artifact import sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from crossrank.export.checkpoint.head_modules import HeadModule

_SINGLE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


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
    hint = ""
    if (folder / "adapter_config.json").is_file():
        hint = "; it holds an adapter only: merge it into its base model and save that"
    raise UnsupportedCheckpointError(
        f"{folder} has no weights; expected model.safetensors or pytorch_model.bin (or their shards){hint}"
    )
