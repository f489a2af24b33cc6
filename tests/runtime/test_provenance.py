import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conmim_lightning.runtime import provenance
from conmim_lightning.runtime.provenance import git_state, portable, run_record, shortened_paths


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


@pytest.mark.parametrize(
    ("direct_url", "state"),
    [
        (None, "release 0.1.0"),
        ('{"url": "x", "dir_info": {}}', "release 0.1.0"),
        ('{"url": "x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}', "abc"),
    ],
)
def test_an_installed_package_has_the_commit_of_pip_or_a_version(monkeypatch, tmp_path, direct_url, state):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "site-packages" / "conmim_lightning" / "a" / "b.py"))
    monkeypatch.setattr(provenance, "distribution", lambda name: SimpleNamespace(read_text=lambda file: direct_url))
    assert git_state() == state


def test_the_users_own_checkout_is_recorded(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_record({}, "1a")["working_directory_git"] is None
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"],
    ):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert run_record({}, "1a")["working_directory_git"] == head


def test_loggers_get_no_paths_of_the_machine():
    config = {
        "paths": {"run_dir": "/home/me/runs/1"},
        "logger": {"csv": {"save_dir": "/home/me/runs/1"}},
        "callbacks": {"report": {"path": "/home/me/runs/1/report.png", "num_images": 4}},
        "data": {"root": "/data/sets/imagenet/train", "exclude": ["a/b"], "mean": [0.5]},
        "backbone": {"weights": "/home/me/runs/10"},
    }
    record = run_record(config, "1a") | {"command": ["train", "data.root=/data/sets/imagenet/train", "lr=1/3"]}
    logged = portable(record)
    assert logged["config"] == {
        "callbacks": {"report": {"path": "./report.png", "num_images": 4}},
        "data": {"root": ".../imagenet/train", "exclude": ["a/b"], "mean": [0.5]},
        "backbone": {"weights": ".../runs/10"},
    }
    assert logged["command"] == ["train", "data.root=.../imagenet/train", "lr=1/3"]
    assert record["config"]["paths"], "the record itself is complete"
    resumed = run_record(config, "1a", {"global_step": 3, "run": record})
    assert "/data/sets" not in str(portable(resumed)["earlier"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/images", ".../images"),
        ("~/images", ".../images"),
        ("/home/me/multirun/loss.temperature=0.1/checkpoints/last.ckpt", ".../checkpoints/last.ckpt"),
        ("data.root=[/home/me/sets/a,/home/me/sets/b]", "data.root=[.../sets/a,.../sets/b]"),
        ("backbone.weights='/home/me/runs/1'", "backbone.weights='.../runs/1'"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("lr=1/3", "lr=1/3"),
        ("runs/mine/1", "runs/mine/1"),
    ],
)
def test_absolute_paths_keep_their_last_names(text, expected):
    assert shortened_paths(text) == expected


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
