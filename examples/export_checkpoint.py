"""Export a checkpoint to a verified artifact and rerank with it (needs the export extra)."""

import tempfile
from pathlib import Path

from crossrank import Reranker
from crossrank.export import export

CHECKPOINT = Path(__file__).parent.parent / "models" / "default" / "checkpoint"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = export(CHECKPOINT, Path(folder) / "artifact", precisions=("fp32",), activation="identity")
        for graph in report.graphs:
            print(f"{graph.file}: {graph.size / 1e6:.0f} MB, at most {graph.fidelity.max_abs_logit_difference:.1g} off")
        with Reranker(report.artifact) as reranker:
            print(reranker.rank("what do bees make?", ["Cars need petrol.", "Bees make honey."])[0].document)


if __name__ == "__main__":
    main()
