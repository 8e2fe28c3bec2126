"""The studio on the static page: of an output that is a control and a picture, the page shows the picture."""

from __future__ import annotations

import base64
import json

import nbformat
from docutils import nodes
from sphinx.application import Sphinx

from genai_lib.widgets.studio import Studio
from tools import page_finish


def outputs_of(document: nodes.document) -> list[set[str]]:
    """The kinds that each output of a page offers."""
    return [{child["mime_type"] for child in node.children} for node in document.findall(nodes.container)
            if node.get("nb_element") == "mime_bundle"]  # fmt: skip


def test_a_picture_stands_in_for_the_control(tmp_path):
    tool = Studio(tmp_path / "gallery.json")
    bundle = tool._repr_mimebundle_()
    alone = {kind: bundle[kind] for kind in ("text/plain", page_finish.WIDGET)}  # as a flipbook: a control and no picture
    cells = [nbformat.v4.new_markdown_cell("# A page")]
    for number, data in enumerate([bundle, alone, {"text/plain": "3"}], start=1):
        alt = {"mystnb": {"image": {"alt": "what was made"}}}
        cell = nbformat.v4.new_code_cell("tool", execution_count=number, metadata=alt)
        cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=number)]
        cells.append(cell)
    source = tmp_path / "source"
    source.mkdir()
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(notebook, source / "index.ipynb")
    folders = {"srcdir": source, "confdir": None, "outdir": tmp_path / "out", "doctreedir": tmp_path / "trees"}
    settings = {"extensions": ["myst_nb", "tools.page_finish"], "nb_execution_mode": "off", "html_theme": "basic"}
    app = Sphinx(**folders, buildername="dummy", confoverrides=settings, warningiserror=True, status=None)
    app.build()
    document = app.env.get_doctree("index")
    assert outputs_of(document) == [{"text/plain", "image/png"}, {"text/plain", page_finish.WIDGET}, {"text/plain"}]
    (image,) = document.findall(nodes.image)
    assert image["alt"] == "what was made"
    assert base64.b64decode(bundle["image/png"])[:4] == b"\x89PNG"
    assert json.dumps(bundle)  # it can be saved in a notebook
