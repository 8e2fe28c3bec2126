"""genai_lib is a house with floors: a file imports only from floors below its own, and stays small."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "genai_lib"
FILES = sorted(LIBRARY.rglob("*.py"))

# Lowest first. Files of one floor may import each other (models/vae.py uses models/gaussian.py), never in a circle.
FLOORS = ["noise", "progress", "data", "models", "objectives", "optimisers", "checkpoint", "training", "callbacks",
          "metrics", "ledger", "games", "recipes", "speed", "pretrained", "sweep", "export", "compression", "studio",
          "plotting", "widgets", "__main__"]
HEIGHT = {floor: height for height, floor in enumerate(FLOORS)}


def parts(path: Path) -> tuple[str, ...]:
    """('models', 'vae') for genai_lib/models/vae.py, ('models',) for its __init__.py, () for the package's."""
    below = path.relative_to(LIBRARY).with_suffix("").parts
    return below[:-1] if below[-1] == "__init__" else below


MODULES = {parts(path) for path in FILES}


def imports(path: Path) -> set[tuple[str, ...]]:
    """The modules of genai_lib that a file imports, those inside functions included."""
    package = parts(path) if path.name == "__init__.py" else parts(path)[:-1]
    found: set[tuple[str, ...]] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = ["genai_lib", *package[:len(package) - node.level + 1], *base]
            # `from genai_lib import noise` imports a module, `from genai_lib.noise import Noise` a name in one
            names = [[*base, alias.name] if tuple([*base, alias.name][1:]) in MODULES else base for alias in node.names]
        else:
            continue
        found |= {tuple(name[1:]) for name in names if name[:1] == ["genai_lib"]}
    return found


def test_every_file_of_the_library_stands_on_a_floor():
    top = {module[0] for module in MODULES if module}
    assert top <= set(FLOORS), f"give {sorted(top - set(FLOORS))} a floor in this test and in genai_lib/__init__.py"
    assert len(top) >= 10


def test_the_docstring_of_the_package_lists_the_floors_in_this_order():
    listed = re.findall(r"^    (\w+)  +\S", ast.get_docstring(ast.parse((LIBRARY / "__init__.py").read_text())), re.M)
    assert listed == [floor for floor in FLOORS if floor != "__main__"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path):
    here = parts(path)
    if not here:  # the package itself re-exports its lowest floor only
        assert {module[0] for module in imports(path)} <= {"noise"}
        return
    for module in imports(path):
        if not module:  # `from genai_lib import __version__`: the command line alone may
            assert here == ("__main__",), f"{path.name} imports the package itself"
        elif module[0] != here[0]:
            assert HEIGHT[module[0]] < HEIGHT[here[0]], f"{'.'.join(here)} must not import {'.'.join(module)}"


def test_no_two_files_import_each_other():
    graph = {parts(path): imports(path) - {parts(path)} for path in FILES}
    done: set[tuple[str, ...]] = set()

    def visit(module: tuple[str, ...], above: tuple[tuple[str, ...], ...]) -> None:
        assert module not in above, " → ".join(".".join(m) or "genai_lib" for m in (*above, module))
        if module in done:
            return
        for below in graph.get(module, ()):
            visit(below, (*above, module))
        done.add(module)

    for module in graph:
        visit(module, ())
    assert done >= set(graph)


def lines_of_code(path: Path) -> int:
    """Lines that are not blank, not a comment and not part of a docstring."""
    text = path.read_text(encoding="utf-8")
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            told |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and number not in told for number, line in lines)


def test_a_reader_can_read_the_library():
    lengths = {path.relative_to(ROOT): lines_of_code(path) for path in FILES}
    tools = {name: length for name, length in lengths.items() if "widgets" in name.parts or name.stem == "studio"}
    assert sum(tools.values()) <= 800  # what is played with: the studio, the game, the pages' widgets
    assert sum(lengths.values()) - sum(tools.values()) <= 4_500  # it was 4,100 before the chapters of applications
    models = {name: length for name, length in lengths.items() if "models" in name.parts}
    assert len(models) >= 5
    assert {name: length for name, length in models.items() if length > 150} == {}


def test_importing_the_library_does_no_work():
    """At the top of a file stand imports, definitions and plain values: no call that opens, trains or downloads."""
    forbidden = {"open", "print", "load", "manual_seed", "use", "set_num_threads", "mkdir", "run", "read_text",
                 "read_bytes"}
    for path in FILES:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if path.name == "__main__.py":
            body = [node for node in body if not isinstance(node, ast.If)]
        top = [n for n in body if isinstance(n, (ast.Assign, ast.AnnAssign, ast.Expr, ast.With, ast.For, ast.If))]
        for node in itertools.chain.from_iterable(map(ast.walk, top)):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in forbidden, f"{path.relative_to(ROOT)}:{node.lineno} calls {called}() at import"
