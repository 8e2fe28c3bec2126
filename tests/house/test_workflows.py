"""The workflows: valid, of least privilege, and running what a reader runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
BIN = Path(sys.executable).parent


def read(path: Path) -> dict:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    loaded["on"] = loaded.pop(True)  # YAML 1.1 reads the key `on` as true
    return loaded


def steps(path: Path) -> list[dict]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_there_are_two():
    assert [path.stem for path in WORKFLOWS] == ["pages", "test"]


def test_they_follow_the_schema():
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_check_can_fail(tmp_path):
    broken = tmp_path / "broken.yml"
    text = (FOLDER / "test.yml").read_text(encoding="utf-8")
    broken.write_text(text.replace("runs-on:", "runs-at:"), encoding="utf-8")
    assert run(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", broken).returncode == 1


def test_the_security_linter_finds_nothing():
    done = run(BIN / "zizmor", "--offline", "--no-progress", FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_security_linter_can_fail(tmp_path):
    broken = tmp_path / ".github" / "workflows" / "test.yml"
    broken.parent.mkdir(parents=True)
    broken.write_text((FOLDER / "test.yml").read_text(encoding="utf-8").replace("persist-credentials: false", ""),
                      encoding="utf-8")
    assert run(BIN / "zizmor", "--offline", "--no-progress", "--persona=auditor", broken).returncode > 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_nothing_is_allowed_that_a_job_does_not_ask_for(path):
    workflow = read(path)
    assert workflow["permissions"] == {}
    asked = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert asked == {"test": {"test": {"contents": "read"}},
                     "pages": {"build": {"contents": "read"}, "deploy": {"pages": "write", "id-token": "write"},
                               "colab": {"contents": "write"}}}[path.stem]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_commits_and_say_their_version(path):
    uses = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert uses
    for line in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_one_action_has_one_version():
    pins = {tuple(step["uses"].split("@")) for path in WORKFLOWS for step in steps(path) if "uses" in step}
    assert len(pins) == len({action for action, _ in pins})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_checkouts_keep_no_credentials_and_versions_are_strings(path):
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        if step.get("uses", "").startswith("actions/setup-python@"):
            assert isinstance(step["with"]["python-version"], str)


def test_the_test_workflow_runs_what_a_reader_can_run():
    assert "bash .ci/run" in [step.get("run") for step in steps(FOLDER / "test.yml")]
    assert set(read(FOLDER / "test.yml")["on"]) == {"push", "pull_request"}
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert text.rstrip().endswith("make test")
    assert run("bash", "-n", script).returncode == 0


def test_the_pages_workflow_publishes_what_make_publish_writes():
    commands = [step.get("run", "") for step in steps(FOLDER / "pages.yml")]
    assert any(command.startswith("make publish") for command in commands)
    paths = [step["with"]["path"] for step in steps(FOLDER / "pages.yml") if "upload" in step.get("uses", "")]
    assert paths == ["_build/publish/site", "_build/publish/colab"]
