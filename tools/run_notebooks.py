"""Run notebooks from a clean kernel, top to bottom, and keep their outputs; one after the other.

    python tools/run_notebooks.py                   all of notebooks/ and notebooks/solutions/
    python tools/run_notebooks.py notebooks/04*     these
    python tools/run_notebooks.py --check           run nothing: are the committed files in the form this tool writes?

A notebook that fails is left as it was. What differs from run to run without meaning anything (time stamps, the patch
version of Python, random identifiers of widgets) is removed or made stable, so that a diff shows what has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from genai_lib import ledger
from genai_lib.checkpoint import write_whole

ROOT = Path(__file__).resolve().parents[1]
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}
VOLATILE = ("execution", "ExecuteTime", "collapsed", "scrolled")  # a cell's metadata that editors and clients add


def all_notebooks() -> list[Path]:
    """The chapters, then their solutions, in the order of their names."""
    folder = ROOT / "notebooks"
    return sorted(folder.glob("*.ipynb")) + sorted((folder / "solutions").glob("*.ipynb"))


def normalise(notebook: NotebookNode, name: str) -> NotebookNode:
    """Make what carries no meaning the same in every run. `name` keeps widget identifiers apart between notebooks."""
    widgets = notebook.metadata.get("widgets", {})
    for key in ("signature", "toc"):
        notebook.metadata.pop(key, None)
    notebook.metadata.kernelspec = nbformat.from_dict(KERNEL)
    notebook.metadata.language_info = nbformat.from_dict(LANGUAGE)
    for cell in notebook.cells:
        for key in VOLATILE:
            cell.metadata.pop(key, None)
    models = widgets.get(WIDGET_STATE, {}).get("state", {})
    if not models:
        notebook.metadata.pop("widgets", None)
        return notebook
    # The new identifiers sort in the order in which the models were made, for files list them sorted.
    stable = {old: f"{i:04x}" + hashlib.sha256(f"{name} {i}".encode()).hexdigest()[:28] for i, old in enumerate(models)}
    text = re.sub("|".join(map(re.escape, stable)), lambda found: stable[found.group()], json.dumps(notebook))
    return nbformat.from_dict(json.loads(text))


def faults(notebook: NotebookNode, name: str) -> list[str]:
    """What keeps a committed notebook from being one that this tool wrote after a clean run."""
    found = []
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        found.append(f"not run top to bottom from a clean kernel (execution counts {counts})")
    for cell in cells:
        for output in cell.outputs:
            if output.output_type == "error" and "raises-exception" not in cell.metadata.get("tags", []):
                found.append(f"cell {cell.execution_count} ended in {output.ename}")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {cell.execution_count} wrote to stderr: {output.text.strip()[:80]}")
    if json.dumps(normalise(nbformat.from_dict(json.loads(json.dumps(notebook))), name)) != json.dumps(notebook):
        found.append("holds time stamps, random identifiers or editor metadata")
    return found


def execute(path: Path, timeout: int) -> float:
    """Run one notebook in place and return the seconds it took. The file changes only when every cell has succeeded."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    client = NotebookClient(notebook, timeout=timeout, kernel_name="python3", store_widget_state=True,
                            coalesce_streams=True, record_timing=False,
                            resources={"metadata": {"path": str(path.parent)}})
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    notebook = normalise(notebook, path.stem)
    nbformat.validate(notebook)
    write_whole(lambda part: nbformat.write(notebook, part), path)
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Run or check the notebooks named; return how many failed."""
    parser = argparse.ArgumentParser(description="Run notebooks from a clean kernel and keep their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all chapters and solutions")
    parser.add_argument("--check", action="store_true", help="run nothing; say which files this tool has not written")
    parser.add_argument("--timeout", type=int, default=300, help="seconds a cell may take (default 300)")
    options = parser.parse_args(arguments)
    os.environ["TQDM_DISABLE"] = "1"  # a progress bar in an output is never twice the same
    os.environ[ledger.WRITING] = "write"  # what a notebook settles goes into book/ledger.json
    failed = 0
    for path in options.notebooks or all_notebooks():
        if not path.is_file():
            print(f"{path}: no such notebook", file=sys.stderr)
            failed += 1
        elif options.check:
            wrong = faults(nbformat.read(path, as_version=4), path.stem)
            failed += bool(wrong)
            for fault in wrong:
                print(f"{path}: {fault}. Run `make notebooks NOTEBOOKS={path}`.", file=sys.stderr)
        else:
            print(f"{path} … ", end="", flush=True)
            try:
                print(f"{execute(path, options.timeout):.0f} s", flush=True)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                print(f"failed, left as it was\n{error}", flush=True)
                failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
