"""Makes every form of the weights that the contenders load, from one checkpoint folder.

Run as `python prepare_weights.py CHECKPOINT TARGET`, by an environment with transformers, optimum-onnx and
onnxruntime. Makes `checkpoint/` (float32 safetensors), `fp32/model.onnx` (optimum's export, nothing else done to it)
and `int8/model.onnx` (onnxruntime's dynamic quantization with its defaults), each with the tokenizer's files.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def prepare(source: Path, target: Path) -> None:
    """Write the three folders into `target`, which exists."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from optimum.exporters.onnx import main_export
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(source, torch_dtype=torch.float32)
    checkpoint, fp32, int8 = target / "checkpoint", target / "fp32", target / "int8"
    model.save_pretrained(checkpoint)
    AutoTokenizer.from_pretrained(source).save_pretrained(checkpoint)
    for path in source.iterdir():  # files that newer libraries no longer write and older ones still read
        if path.suffix in {".json", ".txt", ".model"} and not (checkpoint / path.name).exists():
            shutil.copy(path, checkpoint)
    _allow_full_length(checkpoint / "tokenizer_config.json")
    main_export(str(checkpoint), output=str(fp32), task="text-classification", do_validation=False)
    shutil.copytree(checkpoint, int8, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copytree(int8, fp32, dirs_exist_ok=True)
    quantize_dynamic(str(fp32 / "model.onnx"), str(int8 / "model.onnx"), weight_type=QuantType.QInt8)


def _allow_full_length(tokenizer_config: Path) -> None:
    """Remove `max_length`, a shorter truncation length that some readers prefer to the model's own."""
    values = json.loads(tokenizer_config.read_text(encoding="utf-8"))
    if values.pop("max_length", None) is not None:
        tokenizer_config.write_text(json.dumps(values, indent=2), encoding="utf-8")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
