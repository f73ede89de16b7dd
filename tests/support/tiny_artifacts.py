"""Artifacts made without the export pipeline, so that tests of other layers do not depend on it.

A graph as optimum writes it, its dynamic int8 form by onnxruntime's own tool (activations are quantized per tensor,
so a pair's score depends on the other pairs of its run), and reference logits from a plain onnxruntime session fed
by the tokenizer of transformers: an account of the scores that shares no code with the engine.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.models.artifact import record_files
from crossrank.models.artifact_writer import ArtifactWriter, write_manifest
from crossrank.models.manifest import Architecture, Fidelity, Graph, Manifest, ReferencePair, Source, Template

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

MAX_LENGTH = 64
REFERENCE_PAIRS = (
    ("the river heats cold water", "the old café carries bread and butter in winter."),
    ("who reads", ""),
    ("wind-tunnel results", "every reader measures wind-tunnel results by hand " * 3),
)


def save_graphs(model: onnx.ModelProto, folder: Path) -> None:
    """Write a float32 graph as fp32.onnx, int8.onnx and fp16.onnx (with float32 output)."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(model, folder / "fp32.onnx")
    quantize_dynamic(
        folder / "fp32.onnx", folder / "int8.onnx", per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
    )
    onnx.save(convert_float_to_float16(model, keep_io_types=True), folder / "fp16.onnx")


def reference_logits(
    graph: Path, checkpoint: Path, pairs: Sequence[tuple[str, str]], max_length: int = MAX_LENGTH
) -> np.ndarray:
    """Outputs of a graph for pairs, one pair a run; float32 (n, labels)."""
    import onnxruntime
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    rows = []
    for query, document in pairs:
        # As lists: of two plain strings, transformers ignores the second if it is empty.
        encoded = tokenizer(
            [query], [document], truncation="only_second", max_length=max_length, return_token_type_ids=True
        )
        rows.append(session.run(None, {name: np.asarray(encoded[name], dtype=np.int64) for name in names})[0][0])
    return np.asarray(rows, dtype=np.float32)


def write_artifact(
    folder: Path,
    checkpoint: Path,
    graphs: Path,
    *,
    precisions: Sequence[str] = ("fp32", "int8"),
    max_length: int = MAX_LENGTH,
    num_labels: int = 1,
    **manifest_keys: Any,
) -> Path:
    """Write an artifact of a tiny checkpoint from graphs made by `save_graphs`.

    Args:
        folder: the artifact's.
        checkpoint: whose tokenizer and configuration it has.
        graphs: folder with `{precision}.onnx` files.
        precisions: which of them to take; fp16 is for CUDA, the others for the CPU.
        max_length: of the manifest.
        num_labels: of the model.
        **manifest_keys: replace what the manifest would say.
    """
    import onnx
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(checkpoint)
    with ArtifactWriter(folder) as writer:
        shutil.copy(checkpoint / "tokenizer.json", writer.folder / "tokenizer.json")
        records = []
        for precision in precisions:
            shutil.copy(graphs / f"{precision}.onnx", writer.folder)
            model = onnx.load(writer.folder / f"{precision}.onnx")
            logits = reference_logits(graphs / f"{precision}.onnx", checkpoint, REFERENCE_PAIRS, max_length)
            logits = logits[:, 0] if num_labels == 1 else logits[:, 0] - logits[:, 1]
            records.append(
                Graph(
                    file=f"{precision}.onnx",
                    precision=precision,
                    opset=model.opset_import[0].version,
                    providers=("cuda",) if precision == "fp16" else ("cpu",),
                    inputs=tuple(item.name for item in model.graph.input),
                    batching="single" if precision == "int8" else "padded",
                    fidelity=Fidelity(reference="none", queries=0, pairs=0, max_abs_logit_difference=0.0),
                    reference_logits=tuple(float(value) for value in logits),
                )
            )
        keys = {
            "name": f"tiny-{config.model_type}",
            "crossrank_version": "0",
            "library_versions": {},
            "source": Source(kind="local", id=checkpoint.name, weights_sha256={}),
            "architecture": Architecture(
                model_type=config.model_type,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                vocab_size=config.vocab_size,
            ),
            "max_length": max_length,
            "pad_token_id": AutoTokenizer.from_pretrained(checkpoint).pad_token_id,
            "uses_segment_ids": "token_type_ids" in records[0].inputs,
            "num_labels": num_labels,
            "activation": "identity",
            "graphs": tuple(records),
            "reference_pairs": tuple(ReferencePair(query=query, document=text) for query, text in REFERENCE_PAIRS),
            "files": record_files(
                writer.folder, ["tokenizer.json", *(f"{precision}.onnx" for precision in precisions)]
            ),
        }
        writer.commit(Manifest(**(keys | manifest_keys)))
    return folder


def copy_artifact(source: Path, folder: Path, **manifest_keys: Any) -> Path:
    """Copy an artifact with other values in its manifest, such as `graphs`, and correct digests."""
    shutil.copytree(source, folder)
    return rewrite_manifest(folder, **manifest_keys)


def rewrite_manifest(folder: Path, **manifest_keys: Any) -> Path:
    """Update an artifact's manifest after its files were changed, with other values where given."""
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    files = record_files(folder, [record.path for record in manifest.files])
    write_manifest(folder, manifest.model_copy(update={"files": files} | manifest_keys))
    return folder


def with_instruction(source: Path, folder: Path, **template: Any) -> Path:
    """Copy an artifact of a BERT as one that takes an instruction before the query; `template` has further fields."""
    fields = {
        "name": "mine",
        "prefix": ("[CLS]",),
        "instruction_text": "{instruction} ",
        "query": "{query}",
        "middle": ("[SEP]",),
        "document": "{document}",
        "suffix": ("[SEP]",),
    }
    return copy_artifact(source, folder, template=Template(**(fields | template)))
