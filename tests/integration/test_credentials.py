"""Credentials in arguments are in no file that a run writes, and not on the terminal."""

import pytest

SECRET = "geheim"
URL = f"http://me:{SECRET}@localhost:1/set"


def files_with_the_secret(folder):
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.filterwarnings("default:slow:UserWarning")
@pytest.mark.parametrize("launcher", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_a_run(run_command, tmp_path, tiny, monkeypatch, launcher):
    (tmp_path / "noting.py").write_text(
        "from lightning import Callback\nfrom lightning.pytorch.utilities import rank_zero_info, rank_zero_warn\n"
        "class Note(Callback):\n"
        "    def __init__(self, url, hub_token):\n        self.url, self.hub_token = url, hub_token\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        rank_zero_info('reading %s', self.url)\n        rank_zero_warn(f'slow: {self.url}')\n"
        "        print(self.url)\n        assert self.hub_token.startswith('geh') and '@localhost' in self.url\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    note = ["+callbacks.note._target_=noting.Note", f"+callbacks.note.url={URL}", f"+callbacks.note.hub_token={SECRET}"]
    loggers = ["logger=wandb", "~callbacks.probe", "~callbacks.report", "schedule.epochs=1", "schedule.warmup_epochs=0"]
    done = run_command("train", *launcher, "experiment=quickstart", *tiny, *loggers, *note)
    assert done.status == 0, done.stderr
    assert "http://***@localhost:1/set" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    assert list(tmp_path.rglob("run.yaml")), "there is something to search"
    assert list(tmp_path.rglob("last.ckpt"))
    assert list(tmp_path.rglob("*.wandb"))
    assert not files_with_the_secret(tmp_path / "runs")


def test_an_error(run_command, tmp_path):
    done = run_command("train", "experiment=vit_s_pretrain", "data=shards", f"data.root={URL}")
    assert done.status == 1
    assert "***@localhost" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not files_with_the_secret(tmp_path / "runs")
