"""`.ci/run`, on an invented machine: a folder of stand-ins is all the programs it can find."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machine(tmp_path):
    """Runs a copy of the script where make, apt-get, sudo and python3 only write down how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "env", "grep"):
        (programs / name).symlink_to(shutil.which(name))
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    log = tmp_path / "log"

    def stand_in(name: str, body: str = "") -> None:
        path = programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n{body}\n', encoding="utf-8")
        path.chmod(0o755)

    def run(*, user: str = "0", venv: bool = True, browser: str | None = "chromium", fails: bool = False):
        stand_in("make", "exit 7" if fails else "echo '12 passed in 3.00s'")
        stand_in("apt-get")
        stand_in("sudo", '"$@"')
        stand_in("python3", f"exit {0 if venv else 1}")
        (programs / "id").write_text(f"#!/bin/sh\necho {user}\n", encoding="utf-8")
        (programs / "id").chmod(0o755)
        if browser:
            stand_in(browser)
        clean = {key: value for key, value in os.environ.items() if key not in ("CHROMIUM", "PYTHON")}
        done = subprocess.run([tmp_path / ".ci" / "run"], env={**clean, "PATH": str(programs)}, cwd="/",
                              capture_output=True, text=True, check=False)
        return done, [line for line in log.read_text(encoding="utf-8").splitlines() if not line.startswith("python3")]

    return run


def test_with_everything_there_it_only_runs_the_checks(machine):
    done, calls = machine()
    assert done.returncode == 0, done.stderr
    assert calls == ["make test"]
    assert "12 passed in 3.00s" in done.stdout


def test_it_installs_what_is_missing_then_runs_the_checks(machine):
    done, calls = machine(venv=False)
    assert done.returncode == 0, done.stderr
    assert calls == ["apt-get update --quiet",
                     "apt-get install --yes --quiet --no-install-recommends python3-venv", "make test"]


def test_it_asks_sudo_only_when_it_is_not_root(machine):
    _, calls = machine(venv=False, user="1000")
    assert [call for call in calls if call.startswith("sudo")] == [
        "sudo apt-get update --quiet",
        "sudo env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends python3-venv"]


def test_a_browser_of_google_s_will_do(machine):
    done, calls = machine(browser="google-chrome")
    assert done.returncode == 0, done.stderr
    assert calls == ["make test"]


def test_a_failing_check_fails_the_script(machine):
    done, _ = machine(fails=True)
    assert done.returncode == 7
