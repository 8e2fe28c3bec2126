"""Build the copy of the book that is published for one repository.

    GITHUB_REPOSITORY=owner/name python tools/publish.py

No address is written in the course, so every fork publishes itself. This program takes a copy of what the site is made of,
writes the repository's name into the copy, and builds it:

- `_build/publish/site`    the site, with links to Colab, a link to the repository, and addresses in its metadata;
- `_build/publish/colab`   the notebooks, whose first cell installs the library from that repository.

Two more variables may be set: `PAGES_URL`, where the site will be (else GitHub's own address for the repository), and
`COLAB_BRANCH`, the branch on which the notebooks will be (else `colab`).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[-_](?=[A-Za-z0-9])){0,38}")
NAME = re.compile(r"(?!\.{1,2}$)(?!.*\.git$)[A-Za-z0-9._-]{1,100}")
URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[A-Za-z0-9._~-]+)*/?")
BRANCH = re.compile(r"(?!.*\.\.)(?!.*\.lock$)[A-Za-z0-9](?:[A-Za-z0-9._-]|/(?=[A-Za-z0-9]))*(?<!\.)")
STAMP = re.compile(r'^(\s*"REPOSITORY = \\")(?=\\")', flags=re.MULTILINE)  # the line as it stands in a notebook's JSON
NOT_COPIED = shutil.ignore_patterns("__pycache__", "runs", ".*", "*.npz", "*.safetensors")  # autodoc reads no data


class PublishError(Exception):
    """What is asked for cannot be published; the message says what to change."""


@dataclass(frozen=True)
class Place:
    """Where a copy will be published."""

    owner: str
    name: str
    pages_url: str
    colab_branch: str

    @property
    def repository(self) -> str:
        """`owner/name`."""
        return f"{self.owner}/{self.name}"


def place(environment: Mapping[str, str]) -> Place:
    """Read the place from the environment; refuse everything that is not plainly a name."""
    repository = environment.get("GITHUB_REPOSITORY", "")
    if not repository:
        raise PublishError("GITHUB_REPOSITORY is not set. Name the repository that publishes the site: "
                           "GITHUB_REPOSITORY=owner/name make publish")
    owner, _, name = repository.partition("/")
    if not OWNER.fullmatch(owner) or not NAME.fullmatch(name):
        raise PublishError(f"GITHUB_REPOSITORY={repository!r} is not the name of a GitHub repository. It has the form "
                           "owner/name: letters, digits and hyphens, a slash, letters, digits, hyphens, dots and underscores.")
    host = f"{owner.lower()}.github.io"
    url = environment.get("PAGES_URL") or f"https://{host}/" + ("" if name.lower() == host else f"{name}/")
    if not URL.fullmatch(url):
        raise PublishError(f"PAGES_URL={url!r} is not an address. It has the form https://example.org/folder/")
    branch = environment.get("COLAB_BRANCH") or "colab"
    if not BRANCH.fullmatch(branch):
        raise PublishError(f"COLAB_BRANCH={branch!r} is not the name of a branch. Use letters, digits, hyphens and slashes.")
    return Place(owner, name, url.rstrip("/") + "/", branch)


def copy_source(source: Path) -> None:
    """Copy what the site is made of into the new folder `source`."""
    source.mkdir(parents=True)
    for folder in ("book", "notebooks", "genai_lib"):
        shutil.copytree(ROOT / folder, source / folder, ignore=NOT_COPIED)
    (source / "tools").mkdir()
    for name in ("_config.yml", "_toc.yml", "tools/page_finish.py"):
        shutil.copyfile(ROOT / name, source / name)


def stamp(path: Path, repository: str) -> None:
    """Write the repository's name into a notebook's first cell, and change nothing else."""
    text, found = STAMP.subn(rf"\g<1>{repository}", path.read_text(encoding="utf-8"))
    if found != 1:
        raise PublishError(f'{path.name} has {found} lines REPOSITORY = "" where there should be one: '
                           "every notebook begins with the set-up cell, see CONTRIBUTING.md.")
    path.write_text(text, encoding="utf-8", newline="\n")


def address(config: dict[str, Any], where: Place) -> dict[str, Any]:
    """The book's settings with the addresses of `where`."""
    sphinx = config["sphinx"]["config"]
    sphinx["extensions"].insert(-1, "sphinx_sitemap")
    sphinx |= {"html_baseurl": where.pages_url, "ogp_site_url": where.pages_url, "sitemap_url_scheme": "{link}",
               "sitemap_excludes": ["search.html"], "sitemap_show_lastmod": False}
    # Jupyter Book's own keys for these are ignored where html_theme_options is given.
    sphinx["html_theme_options"] |= {"repository_url": f"https://github.com/{where.repository}", "use_repository_button": True,
                                     "repository_branch": where.colab_branch, "path_to_docs": "",
                                     "launch_buttons": {"colab_url": "https://colab.research.google.com"}}
    return config


def build(source: Path, site: Path) -> None:
    """Build the copy, warnings being errors, and move its pages to `site`."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build",
               str(source), "-W", "--keep-going"]
    if subprocess.run(command, check=False).returncode:
        raise PublishError("the book does not build; what is wrong stands above.")
    (source / "_build" / "html").rename(site)


def publish(where: Place, target: Path) -> None:
    """Make `target`/site and `target`/colab."""
    source, site, colab = target / "source", target / "site", target / "colab"
    for folder in (source, site, colab):
        shutil.rmtree(folder, ignore_errors=True)
    copy_source(source)
    notebooks = sorted((source / "notebooks").rglob("*.ipynb"))
    if not notebooks:
        raise PublishError("there are no notebooks in notebooks/.")
    for path in notebooks:
        stamp(path, where.repository)
    shutil.copytree(source / "notebooks", colab / "notebooks")
    about = ("The notebooks of the course as Colab opens them. This branch is made by `make publish` and replaced each time: "
             f"change the notebooks on the main branch of https://github.com/{where.repository}\n")
    (colab / "README.md").write_text(about, encoding="utf-8")
    settings = source / "_config.yml"
    config = address(yaml.safe_load(settings.read_text(encoding="utf-8")), where)
    settings.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False), encoding="utf-8")
    build(source, site)


def main(arguments: list[str] | None = None) -> int:
    """Run the program; 0 when the copy is made, 2 when something has to be changed first."""
    parser = argparse.ArgumentParser(description="Build the copy of the book that GITHUB_REPOSITORY=owner/name publishes.")
    parser.add_argument("--target", type=Path, default=ROOT / "_build" / "publish",
                        help="folder to build in (default: _build/publish)")
    target = parser.parse_args(arguments).target.resolve()
    try:
        where = place(os.environ)
        publish(where, target)
    except PublishError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{target / 'site'} is ready for {where.pages_url}, {target / 'colab'} for the branch {where.colab_branch}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
