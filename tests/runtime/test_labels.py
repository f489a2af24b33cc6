import pytest
import yaml

from conmim_lightning.runtime.labels import run_labels

CONFIG = {
    "task": {"_target_": "conmim_lightning.tasks.pretrain.PretrainTask"},
    "paths": {"run_dir": "/x/runs/today/10-30"},
}


def test_a_run_without_hydra_has_labels():
    labels = run_labels(CONFIG)
    assert labels == ("pretrain 10-30", "pretrain", "pretrain", [])
    other = CONFIG | {"task": {"_target_": "mine.DepthTask"}}
    assert run_labels(other).job_type == "depth"


@pytest.mark.slow
def test_runs_of_a_sweep_have_one_group_and_their_own_names(run_command, tiny, tmp_path):
    sweep = ["-m", "experiment=quickstart", "loss.temperature=0.05,0.1", "hydra.sweep.dir=runs/swept"]
    quick = ["logger=csv", "debug=two_steps", "~callbacks.report", "~callbacks.probe"]
    done = run_command("train", *sweep, *tiny, *quick)
    assert done.status == 0, done.stderr
    records = [yaml.safe_load((tmp_path / "runs" / "swept" / number / "run.yaml").read_text()) for number in "01"]
    assert [record["name"] for record in records] == [f"quickstart loss.temperature={value}" for value in (0.05, 0.1)]
    assert {record["group"] for record in records} == {"quickstart swept"}
    assert records[0]["tags"] == ["quickstart", "scenes", "vit_tiny"]
    assert records[0]["job_type"] == "pretrain"
