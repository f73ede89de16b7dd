"""The arrows between the packages run one way: cli, benchmarks, api, export, engine, models."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("models", "engine", "export", "api", "benchmarks", "cli")
"""Lowest first. A package imports from itself and from those before it."""

NEVER = {
    "models": {"onnxruntime", "torch", "transformers", "optimum", "onnx", "tokenizers", "numpy", "typer"},
    "engine": {"torch", "transformers", "optimum", "onnx", "typer", "rich", "huggingface_hub"},
    "api": {"torch", "transformers", "optimum", "onnx", "typer", "rich"},
    "cli": {"torch", "transformers", "optimum", "onnx", "onnxruntime"},
}


def layer_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "api"


def imports(path):
    """Every import of a file, at its top, in a function or for type checking: (line, module, names)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; name the package"
            yield node.lineno, node.module, tuple(alias.name for alias in node.names)


def files():
    found = [
        (layer, path)
        for layer in LAYERS
        for path in sorted((ROOT / layer).rglob("*.py"))
        if "default" not in path.relative_to(ROOT).parts
    ]
    assert {layer for layer, _ in found} >= {"models", "engine", "export", "api", "cli"}
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_no_package_imports_from_one_above_it(layer):
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    wrong = []
    for home, path in files():
        for line, module, names in imports(path) if home == layer else ():
            if module.split(".")[0] != "crossrank":
                continue
            # `from crossrank import engine` names a package as well; the version belongs to the whole distribution.
            targets = {f"crossrank.{name}" for name in names} if module == "crossrank" else {module}
            targets -= {"crossrank.__version__"}
            wrong += [f"{path.relative_to(ROOT)}:{line} {to}" for to in targets if layer_of(to) not in allowed]
    assert wrong == []


@pytest.mark.parametrize("layer", NEVER)
def test_packages_do_without_the_libraries_of_others(layer):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {module}"
        for home, path in files()
        if home == layer
        for line, module, _ in imports(path)
        if module.split(".")[0] in NEVER[layer]
    ]
    assert wrong == []


def test_what_the_base_install_lacks_is_imported_late():
    base = {
        "cachetools",
        "crossrank",
        "filelock",
        "huggingface_hub",
        "numpy",
        "platformdirs",
        "pydantic",
        "rich",
        "tokenizers",
        "typer",
    }
    wrong = []
    for layer, path in files():
        if layer in {"export", "benchmarks"}:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                roots = {name.split(".")[0] for name in names}
                wrong += [
                    f"{path.name}:{node.lineno} {root}"
                    for root in roots - base - {"crossrank"} - sys.stdlib_module_names
                ]
    assert wrong == []
