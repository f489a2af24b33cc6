from importlib.util import find_spec

import pytest

from conmim_lightning import cli


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
