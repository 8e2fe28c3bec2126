"""Write constraints.txt: the exact version of everything pyproject.toml asks for, and of all that those ask for.

    python tools/lock.py           write it from what is installed beside this interpreter
    python tools/lock.py --check   compare only; say what differs

The versions are those that were tried together. pip reads the file as constraints, so it may name more than one
machine needs: what only some other Python or system wants is simply not installed there.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "constraints.txt"
OUR_EXTRAS = ("book", "test")
HEADER = """\
# Every version exact: what the course was built and tested with, on Python 3.11. Written by `make lock`, never by hand.
# The library itself asks for lower bounds only (pyproject.toml). What torch brings along for a GPU is pinned by torch.
"""


def declared(project: dict) -> list[Requirement]:
    """What pyproject.toml asks for: at run time, for the book, for the tests, and to build the package."""
    lines = list(project["project"]["dependencies"]) + list(project["build-system"]["requires"])
    for extra in OUR_EXTRAS:
        lines += project["project"]["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def closure(requirements: list[Requirement]) -> dict[str, str]:
    """Name → version of the installed packages that `requirements` lead to, directly or not."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(r, extra) for r in requirements for extra in ("", *r.extras)]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed: run `make install` first.") from None
        found[name] = Version(package.version).public  # torch 2.13.0+cpu and +cu130 are both torch 2.13.0
        for line in package.requires or []:
            child = Requirement(line)
            if child.marker is None or child.marker.evaluate({"extra": extra}):
                if name == "torch" and canonicalize_name(child.name).startswith(("nvidia-", "cuda-", "triton")):
                    continue
                todo += [(child, e) for e in ("", *child.extras)]
    return found


def read(path: Path = TARGET) -> dict[str, str]:
    """Name → version of a constraints file."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line)


def main(arguments: list[str]) -> int:
    """Write the file, or compare it with what is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    installed = closure(declared(project))
    if "--check" in arguments:
        written = read()
        wrong = [f"{name}: installed {version}, constraints.txt says {written.get(name, 'nothing')}"
                 for name, version in sorted(installed.items()) if written.get(name) != version]
        print("\n".join(wrong) or "constraints.txt agrees with what is installed")
        return bool(wrong)
    TARGET.write_text(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(installed.items())),
                      encoding="utf-8")
    print(f"{TARGET.name}: {len(installed)} versions")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
