import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from conmim_lightning import cli
from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.study import with_overrides


@pytest.fixture
def conmim(monkeypatch):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["conmim", *words])
        cli.main()

    return run


def test_every_command_has_a_module_and_a_line_of_help(conmim, capsys):
    conmim("--help")
    text = capsys.readouterr().out
    for name, purpose in cli.COMMANDS.items():
        assert f"{name:<10} {purpose}" in text
        assert find_spec(f"conmim_lightning.{name}") is not None


def test_an_unknown_command_is_answered_with_the_closest(conmim, capsys):
    with pytest.raises(SystemExit) as ended:
        conmim("exprot", "checkpoint=x")
    output = capsys.readouterr()
    assert "export" in str(ended.value.code) + output.err + output.out
    assert ended.value.code


def test_the_words_after_the_command_are_passed_on(conmim, monkeypatch):
    calls = []
    monkeypatch.setattr("runpy.run_module", lambda name, **kwargs: calls.append((name, list(cli.sys.argv))))
    conmim("plan", "experiment=vit_s_pretrain")
    assert calls[0][0] == "conmim_lightning.plan"
    assert calls[0][1][1:] == ["experiment=vit_s_pretrain"]


HELP = Path(CONF_DIR) / "hydra" / "help"
HYDRA_COMMANDS = [name for name in cli.COMMANDS if name != "report"]


def test_the_help_explains_every_group():
    text = yaml.safe_load((HELP / "groups.yaml").read_text())["template"]
    explained = set(re.findall(r"^  ([a-z/]+)  +\S", text, re.MULTILINE))
    folders = {path.parent.relative_to(CONF_DIR).as_posix() for path in Path(CONF_DIR).rglob("*.yaml")}
    assert explained == {name for name in folders if name != "." and not name.startswith(("hydra", "wandb"))}


@pytest.mark.parametrize("name", HYDRA_COMMANDS)
def test_the_help_has_three_examples_that_compose(name):
    register_resolvers()
    examples = yaml.safe_load((HELP / f"{name}.yaml").read_text())["footer"].splitlines()
    assert len(examples) == 3
    for example in examples:
        first, command, *words = shlex.split(example)
        assert (first, command) == ("conmim", name)
        words = with_overrides(words) if name == "study" else words
        own = [word.split(",")[0] if "-m" in words else word for word in words if word != "-m"]
        with initialize_config_dir(CONF_DIR, version_base="1.3"):
            assert compose(name, own)


def test_the_help_of_a_command(run_command):
    text = run_command("visualize", "--help").stdout
    assert text.startswith("Draw predictions, attention")
    assert "usage: conmim visualize [key=value ...]" in text
    assert "file_format: png" in text
    assert text.count("conmim visualize ") == 4
