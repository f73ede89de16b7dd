"""Imports run one way: between packages, between the packages within the engine, and between any two modules."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    "errors",
    "models",
    "engine",
    "export",
    "api",
    "evaluation",
    "bulk",
    "server",
    "integrations",
    "benchmarks",
    "self_check",
    "cli",
)
"""Lowest first. A package imports from itself and from those before it."""

ENGINE_FLOORS = (("argument_checks", "process"), ("text", "plan"), ("runtime",), ("schedule",), ("call",))
"""Lowest first; what stands on one floor does not import each other. The engine's other modules stand above all."""

NEVER = {
    "models": {"onnxruntime", "torch", "transformers", "optimum", "onnx", "tokenizers", "numpy", "typer"},
    "errors": {"onnxruntime", "torch", "transformers", "optimum", "onnx", "tokenizers", "numpy", "typer", "pydantic"},
    "engine": {"torch", "transformers", "optimum", "onnx", "typer", "rich", "huggingface_hub"},
    "api": {"torch", "transformers", "optimum", "onnx", "typer", "rich"},
    "evaluation": {"torch", "transformers", "optimum", "onnx", "typer", "rich"},
    "bulk": {"torch", "transformers", "optimum", "onnx", "onnxruntime", "typer", "rich"},
    "integrations": {"optimum", "onnx", "onnxruntime", "typer"},
    "server": {"torch", "transformers", "optimum", "onnx", "onnxruntime", "typer", "rich"},
    "cli": {"torch", "transformers", "optimum", "onnx", "onnxruntime"},
}
BESIDES = {("api/compat/tensors.py", "torch")}
"""Gives callers who have torch their tensors."""


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
    """Every file of the package with its layer; `python -m crossrank` wants the program's start in the root package."""
    found = [
        ("cli" if path == ROOT / "api" / "__main__.py" else layer, path)
        for layer in LAYERS
        for path in sorted((ROOT / layer).rglob("*.py"))
        if "default" not in path.relative_to(ROOT).parts
    ]
    assert {layer for layer, _ in found} >= {"models", "engine", "export", "api", "cli"}
    return found


def modules():
    """Every module by its dotted name, with the crossrank modules that it imports anywhere in the file."""
    names = {}
    for layer, path in files():
        parts = ["crossrank", *path.relative_to(ROOT).with_suffix("").parts]
        if layer == "api":
            del parts[1]
        names[".".join(part for part in parts if part != "__init__")] = path
    return {
        name: {
            target
            for _, module, imported in imports(path)
            for target in ({f"{module}.{one}" for one in imported} & names.keys() or {module})
            if target in names
        }
        for name, path in names.items()
    }


def floor_of(module):
    """Where a module of the engine stands: (floor, package)."""
    index = module.split(".")[2] if module.count(".") > 1 else ""
    for floor, packages in enumerate(ENGINE_FLOORS):
        if index in packages:
            return floor, index
    return len(ENGINE_FLOORS), "top"


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
        and (path.relative_to(ROOT).as_posix(), module.split(".")[0]) not in BESIDES
    ]
    assert wrong == []


def at_import(body):
    """Statements that run when a module is imported, also those tried."""
    for node in body:
        yield node
        if isinstance(node, ast.Try):
            yield from at_import(node.body)


def test_what_the_base_install_lacks_is_imported_late():
    base = {
        "cachetools",
        "crossrank",
        "filelock",
        "huggingface_hub",
        "numpy",
        "packaging",
        "platformdirs",
        "pydantic",
        "rich",
        "tokenizers",
        "typer",
    }
    frameworks = {"langchain.py": "langchain_core", "llama_index.py": "llama_index", "haystack.py": "haystack"}
    wrong = []
    for layer, path in files():
        if layer in {"export", "benchmarks"} or (layer == "server" and path.name != "settings.py"):
            continue
        allowed = base | {frameworks[path.name]} if layer == "integrations" and path.name in frameworks else base
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in at_import(tree.body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                roots = {name.split(".")[0] for name in names}
                wrong += [
                    f"{path.name}:{node.lineno} {root}"
                    for root in roots - allowed - {"crossrank"} - sys.stdlib_module_names
                ]
    assert wrong == []


def test_no_two_modules_import_each_other():
    graph = modules()
    assert [
        (one, other) for one, others in graph.items() for other in others if one < other and one in graph[other]
    ] == []


def test_the_packages_of_the_engine_stand_on_each_other():
    engine = {name: targets for name, targets in modules().items() if name.startswith("crossrank.engine.")}
    assert {floor_of(name)[1] for name in engine} == {"top", *(name for floor in ENGINE_FLOORS for name in floor)}
    wrong = []
    for name, targets in engine.items():
        floor, package = floor_of(name)
        for target in targets & engine.keys():
            below, other = floor_of(target)
            if below > floor or (below == floor and other != package):
                wrong.append(f"{name} -> {target}")
    assert wrong == []


@pytest.mark.parametrize("package", ["text", "plan", "schedule", "call"])
def test_only_the_runtime_knows_onnxruntime(package):
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / "engine" / package).rglob("*.py"))
        for line, module, _ in imports(path)
        if module.split(".")[0] == "onnxruntime"
    ]
    assert wrong == []


def test_plans_are_made_without_threads_and_without_a_clock():
    wrong = [
        f"{path.name}:{line} {module}"
        for path in sorted((ROOT / "engine" / "plan").rglob("*.py"))
        for line, module, _ in imports(path)
        if module.split(".")[0] in {"threading", "time", "concurrent", "asyncio", "queue"}
    ]
    assert wrong == []
