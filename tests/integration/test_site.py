"""The documentation site builds without warnings, and its commands are valid."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conmim_lightning import configure
from conmim_lightning.cli import COMMANDS
from conmim_lightning.config.check import ConfigError, check
from conmim_lightning.runtime.arguments import expand_arguments
from conmim_lightning.study import with_overrides

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = re.compile(r"^(-m|--multirun|--help|--cfg|job|--config-dir=.*|--config-path=.*|trust=.*)$")
MISSING = re.compile(r"does not exist|no image|holds no|cannot be read")  # of data that is not here


def shell_lines(page: Path) -> Iterator[str]:
    """Lines of the shell blocks and of those without a language, joined if they are continued."""
    language = None
    for line in page.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            language = line.removeprefix("```") if language is None else None
        elif language in ("", "sh", "bash"):
            yield line.split(" #")[0].strip()


def commands() -> list[tuple[str, str, list[str]]]:
    """Page, command and words of every line that runs a command of this project."""
    lines = []
    for page in PAGES:
        for line in shell_lines(page):
            text = re.sub(r"^(srun |torchrun .*?-m |[A-Z_]+=\S+ )*", "", line)
            match = re.match(r"(?:python -m conmim_lightning\.|conmim )(\w+)\s*(.*)$", text)
            if match and "<" not in text and "..." not in text.replace("runs/...", ""):
                lines.append((page.name, match[1], shlex.split(match[2])))
    return lines


LINES = commands()


def test_the_pages_have_commands():
    assert len(LINES) > 40
    assert {command for _, command, _ in LINES} >= set(COMMANDS) - {"benchmark"}


@pytest.mark.parametrize(("page", "command", "words"), LINES, ids=lambda value: str(value)[:60].replace("/", "_"))
def test_commands_compose_and_fit_the_signatures(page, command, words, tmp_path, monkeypatch):
    """Whatever a line cannot find here, its keys and values are those of the configuration."""
    assert command in COMMANDS, f"{page}: {command}"
    words = with_overrides(words) if command == "study" else words
    if command == "report" or any(word.startswith("--") for word in words):
        return  # test_report.py, test_extending.py, test_cli.py
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jpg").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", [command])
    swept = any(word in ("-m", "--multirun") for word in words)
    own = [word for word in expand_arguments(words) if not OPTIONS.match(word) and not word.startswith("hydra")]
    own = [word.split(",")[0] if swept and "[" not in word and "(" not in word else word for word in own]
    own = [word for word in own if "interval(" not in word]
    cfg = configure(command, *own, *([] if command == "export" else [f"paths.run_dir={tmp_path}"]))
    try:
        check(cfg, command)
    except ConfigError as error:
        faults = str(error).splitlines()[1:]
        assert not [fault for fault in faults if not MISSING.search(fault)], f"{page}: {command} {words}"


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    """In a process of its own; notebooks are not executed, see test_notebooks.py."""
    environment = os.environ | {"EXECUTE_NOTEBOOKS": "false", "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", f"--site-dir={tmp_path}/site"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    groups = (tmp_path / "site" / "reference" / "groups" / "index.html").read_text()
    assert "masking=block" in groups
    assert "cosine &lt;k_i, k_j&gt; above which the negative key" in groups, "arguments have their meaning"
    python = (tmp_path / "site" / "reference" / "python" / "index.html").read_text()
    assert "Learn patch features from unlabelled images" in python
    gauges = (tmp_path / "site" / "gauges" / "index.html").read_text()
    assert "Effective rank of the keys" in gauges
    assert len(list((tmp_path / "site" / "notebooks").glob("*/index.html"))) == 6
