import subprocess
from pathlib import Path

import torch

from conmim_lightning.runtime import provenance
from conmim_lightning.runtime.provenance import git_state, run_record


def test_the_record_names_command_versions_and_configuration(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/train.py", "experiment=quickstart"])
    record = run_record({"seed": 3}, "1a")
    assert record["command"] == ["train.py", "experiment=quickstart"]
    assert torch.__version__.startswith(record["packages"]["torch"])
    assert record["config"] == {"seed": 3}
    assert "environment" not in record


def test_the_commit_is_that_of_the_checkout():
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert git_state().removesuffix("-dirty") == commit


def test_an_installed_package_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "conmim_lightning" / "a" / "b.py"))
    assert git_state() == "unknown"


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(provenance, "_PACKAGES", ("no-such-package",))
    assert run_record({}, "1a")["packages"] == {"no-such-package": "not installed"}


def test_credentials_are_masked(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train", "data.root=http://me:pass1@host/set"])
    record = run_record({"data": {"root": "http://me:pass1@host/set"}, "hub_token": "pass2"}, "1a")
    assert "pass" not in str({name: record[name] for name in ("command", "config")})


def test_a_resumed_run_lists_its_earlier_processes():
    first = run_record({"seed": 3}, "1a")
    second = run_record({"seed": 3}, "1a", {"global_step": 8, "run": first})
    third = run_record({"seed": 3}, "1a", {"global_step": 12, "run": second})
    assert [entry["until_step"] for entry in third["earlier"]] == [8, 12]
    assert all("config" not in entry and entry["command"] == first["command"] for entry in third["earlier"])
