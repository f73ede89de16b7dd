"""The notebook docs/notebook.ipynb: runs it from top to bottom, and makes a page of the site of it.

`make notebook` runs it and keeps what it printed; `make docs` makes the page. A cell is plain Python, so no kernel is
needed: the cells share one namespace, and what they print is their output.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
NOTEBOOK = DOCS / "notebook.ipynb"
PAGE = DOCS / "notebook.md"


def read(path: Path = NOTEBOOK) -> Any:
    """The notebook's JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def run(notebook: Any) -> list[str]:
    """Run all cells in order; what each code cell printed."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        with contextlib.redirect_stdout(io.StringIO()) as stream:
            exec(compile("".join(cell["source"]), f"notebook cell {number + 1}", "exec"), namespace)  # noqa: S102
        printed.append(stream.getvalue())
    return printed


def with_outputs(notebook: Any, printed: list[str]) -> Any:
    """The notebook with what its cells printed as their outputs."""
    outputs = iter(printed)
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            text = next(outputs).splitlines(keepends=True)
            stream = [{"output_type": "stream", "name": "stdout", "text": text}] if text else []
            cells.append(cell | {"outputs": stream})
        else:
            cells.append(cell)
    return notebook | {"cells": cells}


def page(notebook: Any) -> str:
    """The notebook as Markdown: text, code, and what was printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [f"```text\n{''.join(output['text']).rstrip()}\n```" for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page, with --run also the notebook with new outputs."""
    notebook = read()
    if "--run" in sys.argv[1:]:
        notebook = with_outputs(notebook, run(notebook))
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(notebook), encoding="utf-8")


if __name__ == "__main__":
    main()
