"""Makes docs/families.md: what was exported and compared, family by family, and what is refused with which words.

python tests/support/families_page.py --measure   exports every subject with every exporter (or those named), keeps
                                                  what came of it in tests/data/families.json, writes the page
python tests/support/families_page.py             writes the page from what is kept, the catalogue and the refusals
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "families.md"
MEASURED = ROOT / "tests" / "data" / "families.json"
BEGIN, END = "<!-- made by tests/support/families_page.py -->", "<!-- end of what is made -->"
LAYERS = 3
OWN = "from the weights"
EXPORTERS = ("optimum", "torch", OWN)
ETTIN, MEAN, NAMED, CODE = (
    "modules: ModernBERT, CLS (ettin)",
    "modules: ModernBERT, mean",
    "three labels, one named (RoBERTa)",
    "code of its own (rotary positions)",
)


def subjects(exporter: str) -> dict[str, tuple[Callable[[Path], Path], dict[str, Any]]]:
    """What is exported by an exporter: how its checkpoint is made in a folder, and options of the export."""
    return decoders() if exporter == OWN else encoders()


def decoders() -> dict[str, tuple[Callable[[Path], Path], dict[str, Any]]]:
    """Classifiers and language models, whose graphs are written from their weights whatever is installed."""
    from tiny_decoders import CLASSIFIERS, LANGUAGE_MODELS, make_decoder

    made: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
        f"{family}, one label": (lambda folder, family=family: make_decoder(folder / family, family), {})
        for family in CLASSIFIERS
    }
    for template, family in LANGUAGE_MODELS.items():
        made[template] = (
            lambda folder, family=family: make_decoder(folder / family, family, generates=True),
            {"template": template},
        )
    return made


def encoders() -> dict[str, tuple[Callable[[Path], Path], dict[str, Any]]]:
    """One checkpoint of every family, and of every other form that a head may have."""
    from remote_checkpoint import write_remote_checkpoint
    from tiny_checkpoints import FAMILIES, make_checkpoint
    from tiny_modules import write_modules

    def plain(family: str, folder: Path, **options: Any) -> Path:
        return make_checkpoint(family, folder / family, layers=LAYERS, **options)

    made: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
        family: (lambda folder, family=family: plain(family, folder), {}) for family in FAMILIES
    }
    made[ETTIN] = (lambda folder: write_modules(plain("modernbert", folder), folder / "modules"), {})
    made[MEAN] = (lambda folder: write_modules(plain("modernbert", folder), folder / "modules", pooling="mean"), {})
    made[NAMED] = (lambda folder: plain("roberta", folder, num_labels=3), {"positive_label": 1})
    made[CODE] = (
        lambda folder: write_remote_checkpoint(plain("xlm-roberta", folder), folder / "remote"),
        {"trust_remote_code": True},
    )
    return made


def measure(exporters: Sequence[str]) -> None:
    """Export every subject with some exporters, and keep what came of each as soon as it is there."""
    for exporter in exporters:
        for subject, (make, options) in subjects(exporter).items():
            rows = _measured(subject, make, options, exporter)
            kept = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {"rows": []}
            others = [row for row in kept["rows"] if (row["subject"], row["exporter"]) != (subject, exporter)]
            names = ("torch", "transformers", "onnx", "onnxruntime", "onnxscript", "optimum-onnx")
            versions = {name: importlib.metadata.version(name) for name in names}
            order = [(by, known) for by in EXPORTERS for known in subjects(by)]
            ordered = sorted([*others, *rows], key=lambda row: order.index((row["exporter"], row["subject"])))
            text = json.dumps({"versions": versions, "rows": ordered}, indent=1, ensure_ascii=False)
            MEASURED.write_text(text + "\n", encoding="utf-8")
            print(exporter, subject, flush=True)


def _measured(
    subject: str, make: Callable[[Path], Path], options: dict[str, Any], exporter: str
) -> list[dict[str, Any]]:
    from export_cases import write_pairs

    from crossrank.errors import CrossrankError
    from crossrank.export import export

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pairs = write_pairs(folder / "pairs.jsonl")
        checkpoint = make(folder)
        try:
            report = export(
                checkpoint,
                folder / "artifact",
                exporter=None if exporter == OWN else exporter,
                verification_pairs=pairs,
                # Random weights rank at random, so eight bits move more than they do in a trained model.
                min_kendall_tau=0.5,
                **options,
            )
        except CrossrankError as error:
            reason = str(error).replace(name, "FOLDER").splitlines()[0]
            return [{"subject": subject, "exporter": exporter, "refused": reason}]
        manifest = json.loads((report.artifact / "manifest.json").read_text(encoding="utf-8"))
    return [
        {"subject": subject, "exporter": exporter, "reference": report.verification.reference} | graph_facts(graph)
        for graph in manifest["graphs"]
    ]


def graph_facts(graph: dict[str, Any]) -> dict[str, Any]:
    """What the page says of one graph of a manifest."""
    passes = {record["name"]: record for record in graph["passes"]}
    return {
        "precision": graph["precision"],
        "batching": graph["batching"],
        "difference": graph["fidelity"]["max_abs_logit_difference"],
        **pass_facts(passes),
    }


def pass_facts(passes: dict[str, Any]) -> dict[str, bool]:
    """What passes made of a graph, by their records."""
    if "fuse" not in passes:  # graphs of decoders have one token in the last layer from the start, and plain attention
        return {"pruned": True, "attention": False}
    return {
        "pruned": passes["prune-last-layer"]["changed"],
        "attention": "Attention" in passes["fuse"]["detail"],
    }


def refusals() -> dict[str, str]:
    """What is refused, with the words of the refusal: each is read from a checkpoint that is that."""
    from tiny_checkpoints import make_checkpoint
    from tiny_modules import write_json, write_modules

    from crossrank.errors import UnsupportedCheckpointError
    from crossrank.export.checkpoint.checkpoint import read_checkpoint

    def config(**values: Any) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            write_json(folder / "config.json", content | values)

        return change

    def embedding(folder: Path) -> None:
        write_json(folder / "config_sentence_transformers.json", {"model_type": "SentenceTransformer"})

    def normalized(folder: Path) -> None:
        entries = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        entries[3]["type"] = "sentence_transformers.base.modules.normalize.Normalize"
        write_json(folder / "modules.json", entries)

    three = {"0": "contradiction", "1": "entailment", "2": "neutral"}
    code = {"AutoModelForSequenceClassification": "modeling.Reranker"}
    plain: dict[str, Callable[[Path], None]] = {
        "another encoder family": config(architectures=["FunnelForSequenceClassification"], model_type="funnel"),
        "a transformer without a head": config(architectures=["BertModel"]),
        "code of its own, without consent": config(auto_map=code),
        "three labels and none named": config(id2label=three),
        "labels that do not exclude each other": config(id2label=three, problem_type="multi_label_classification"),
        "quantized weights": config(quantization_config={"quant_method": "gptq"}),
        "an adapter": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"") and None,
    }
    of_modules: dict[str, Callable[[Path], None]] = {
        "a model that embeds query and document apart": embedding,
        "modules it does not know": normalized,
    }
    said: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        model = make_checkpoint("bert", Path(name) / "made", layers=2)
        modules = write_modules(model, Path(name) / "modules")
        for source, spoils in ((model, plain), (modules, of_modules)):
            for what, spoil in spoils.items():
                folder = Path(shutil.copytree(source, Path(name) / what.replace(" ", "-") / "model"))
                spoil(folder)
                try:
                    read_checkpoint(folder)
                except UnsupportedCheckpointError as error:
                    said[what] = str(error)
    return said


_EXPLAINED = (
    "Tiny checkpoints of {layers} layers with random weights ({versions}). fp32: largest difference of a logit from "
    "the reference, on 32 pairs alone and in batches with padding. int8 and fp16: the same from fp32; random weights "
    "lose more than trained ones. Pruned: the last layer is computed for the one token that is read."
)


def made_part() -> str:
    """The tables of the page."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    lines = [
        "### Exported and compared",
        "",
        _EXPLAINED.format(layers=LAYERS, versions=versions),
        "",
        "| family | exporter | fp32 | int8 | fp16 | pruned | attention fused | int8 pairs share a run |",
        "|---|---|---:|---:|---:|---|---|---|",
    ]
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in measured["rows"]:
        rows.setdefault((row["subject"], row["exporter"]), []).append(row)
    for (subject, exporter), found in rows.items():
        if "refused" in found[0]:
            reason = textwrap.shorten(found[0]["refused"], 160, placeholder=" ...")
            lines.append(f"| {subject} | {exporter} | refused: {reason} | | | | | |")
            continue
        of = {row["precision"]: row for row in found}
        cells = [f"{of[name]['difference']:.1g}" if name in of else "-" for name in ("fp32", "int8", "fp16")]
        pruned, fused = (("no", "yes")[all(row[key] for row in found)] for key in ("pruned", "attention"))
        shared = of["int8"]["batching"] if "int8" in of else "-"
        lines.append(f"| {subject} | {exporter} | {' | '.join(cells)} | {pruned} | {fused} | {shared} |")
    lines += ["", *_catalogue(), "", "### Refused", "", "| what | in these words |", "|---|---|"]
    lines += [f"| {what} | {words.replace('|', '/')} |" for what, words in refusals().items()]
    return "\n".join(lines)


def _catalogue() -> list[str]:
    from crossrank.models.catalogue import load_catalogue

    lines = [
        "### Catalogue",
        "",
        "| name | family | layers | tokens | M parameters | languages | ready ONNX file |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for entry in load_catalogue():
        ready = "" if entry.onnx is None else "yes" if entry.onnx.verified else "unverified"
        cells = (entry.name, entry.model_type, entry.layers, entry.max_length, f"{entry.parameters_millions:g}")
        lines.append(f"| {' | '.join(map(str, cells))} | {', '.join(entry.languages)} | {ready} |")
    return lines


def page() -> str:
    """The page with its tables as they are now."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made_part()}\n\n{END}{after}"


if __name__ == "__main__":
    if "--measure" in sys.argv[1:]:
        measure([exporter for exporter in EXPORTERS if exporter in sys.argv] or EXPORTERS)
    PAGE.write_text(page(), encoding="utf-8")
