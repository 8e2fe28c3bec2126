"""How notebooks are run, kept and compared."""

from __future__ import annotations

import copy
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import get_sanitize_patterns

from tools import run_notebooks

ROOT = run_notebooks.ROOT
PATTERNS = get_sanitize_patterns((ROOT / "tests" / "nbval_sanitize.cfg").read_text(encoding="utf-8"))


def sanitised(text: str) -> str:
    """What nbval compares."""
    for pattern, replacement in PATTERNS:
        text = re.sub(pattern, replacement, text)
    return text


NUMBERS = ["104.3", "7", "-0.25", "−0.25", "+3", "1,814", "12,345.6", "1e-05", "2.5E+3", "   9.1"]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_sanitiser_hides_the_number_after_approximately(number):
    assert sanitised(f"bound ≈ {number} nats, exact 3") == "bound ≈ NUMBER nats, exact 3"


@pytest.mark.parametrize("text", ["exact 104.3 nats", "≈ nan", "≈ inf", "≈ about 3", "gap: ≈", "3.2 ≈ pi", "x ≥ 3.2"])
def test_the_sanitiser_hides_nothing_else(text):
    assert sanitised(text) == text


def test_the_sanitiser_keeps_what_follows_the_number():
    assert sanitised("≈ 3.0 of 10") == "≈ NUMBER of 10"
    assert sanitised("≈ 3.0, 4.0") == "≈ NUMBER, 4.0"
    assert sanitised("a ≈ 3.0 ± 0.2") == "a ≈ NUMBER ± 0.2"


WIDGET = """
import anywidget, traitlets

class Box(anywidget.AnyWidget):
    _esm = "export default { render() {} }"
    data = traitlets.Bytes(b"abc").tag(sync=True)

    def __repr__(self):
        return "Box"

Box()
"""


@pytest.fixture(scope="module")
def ran_twice(tmp_path_factory):
    """A small notebook with a widget, run in place two times; its bytes after each run."""
    path = tmp_path_factory.mktemp("notebooks") / "small.ipynb"
    cells = [new_markdown_cell("# Small"), new_code_cell(WIDGET.strip()),
             new_code_cell("import os\nprint(os.environ['TQDM_DISABLE'])\nprint(6 * 7)\nseen = 'seen' in dir()\nseen")]
    nbformat.write(new_notebook(cells=cells), path)
    runs = []
    for _ in range(2):
        assert run_notebooks.main([str(path)]) == 0
        runs.append(path.read_bytes())
    return path, runs


def test_two_runs_write_the_same_bytes(ran_twice):
    _, (first, second) = ran_twice
    assert first == second


def test_a_run_keeps_counts_outputs_and_the_state_of_widgets(ran_twice):
    path, _ = ran_twice
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 2]
    assert code[1].outputs[0].text == "1\n42\n"
    assert code[1].outputs[1].data["text/plain"] == "False"  # a clean kernel each time
    state = notebook.metadata.widgets[run_notebooks.WIDGET_STATE]["state"]
    shown = code[0].outputs[0].data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert state[shown]["buffers"][0]["data"] == "YWJj"
    layout = state[shown]["state"]["layout"].removeprefix("IPY_MODEL_")
    assert layout in state


def test_a_run_leaves_no_time_stamps_and_no_patch_version(ran_twice):
    path, _ = ran_twice
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    assert "version" not in notebook["metadata"]["language_info"]
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_a_clean_run_passes_the_check(ran_twice):
    path, _ = ran_twice
    assert run_notebooks.main(["--check", str(path)]) == 0


def spoiled(notebook):
    """The notebook with one thing wrong each, and the words that say so."""
    for words in ("execution counts", "ended in ValueError", "wrote to stderr", "time stamps"):
        copied = copy.deepcopy(notebook)
        code = [cell for cell in copied.cells if cell.cell_type == "code"]
        if words == "execution counts":
            code[0].execution_count = 7
        elif words == "ended in ValueError":
            code[1].outputs.append(new_output("error", ename="ValueError", evalue="no", traceback=[]))
        elif words == "wrote to stderr":
            code[1].outputs.append(new_output("stream", name="stderr", text="careful"))
        else:
            code[0].metadata["execution"] = {"iopub.execute_input": "2026-11-22T04:00:00Z"}
        yield words, copied


def test_the_check_finds_each_fault(ran_twice, tmp_path, capsys):
    for number, (words, notebook) in enumerate(spoiled(nbformat.read(ran_twice[0], as_version=4))):
        path = tmp_path / str(number) / "small.ipynb"
        path.parent.mkdir()
        nbformat.write(notebook, path)
        assert run_notebooks.main(["--check", str(path)]) == 1
        said = capsys.readouterr().err
        assert words in said
        assert "Run `make notebooks NOTEBOOKS=" in said


def test_an_error_that_a_cell_announces_is_kept(tmp_path):
    path = tmp_path / "announced.ipynb"
    cell = new_code_cell("raise ValueError('as announced')", metadata={"tags": ["raises-exception"]})
    nbformat.write(new_notebook(cells=[cell]), path)
    assert run_notebooks.main([str(path)]) == 0
    (kept,) = nbformat.read(path, as_version=4).cells[0].outputs
    assert (kept.ename, kept.evalue) == ("ValueError", "as announced")
    assert run_notebooks.main(["--check", str(path)]) == 0


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path, capsys):
    path = tmp_path / "fails.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("assert 1 + 1 == 3, 'planted'")]), path)
    before = path.read_bytes()
    assert run_notebooks.main([str(path)]) == 1
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert "planted" in capsys.readouterr().out


def test_a_missing_notebook_is_named(tmp_path, capsys):
    assert run_notebooks.main([str(tmp_path / "none.ipynb")]) == 1
    assert "none.ipynb: no such notebook" in capsys.readouterr().err


def test_there_are_notebooks_and_each_chapter_has_solutions():
    names = [path.name for path in run_notebooks.all_notebooks()]
    assert names
    assert all(names.count(name) == 2 for name in names)


def test_committed_notebooks_were_run_from_a_clean_kernel(capsys):
    assert run_notebooks.main(["--check"]) == 0, capsys.readouterr().err
