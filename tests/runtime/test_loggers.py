from conmim_lightning.runtime.labels import RunLabels
from conmim_lightning.runtime.loggers import build_loggers, run_id

CSV = "conmim_lightning.loggers.csv.RunCSVLogger"
TENSORBOARD = "conmim_lightning.loggers.tensorboard.RunTensorBoardLogger"
WANDB = "conmim_lightning.loggers.wandb.RunWandbLogger"
LABELS = RunLabels("quickstart 1", "sweep", "pretrain", ["quickstart"])


def test_a_resumed_run_keeps_its_identifier():
    first = run_id(None)
    assert first != run_id(None)
    assert run_id({"run": {"id": first}}) == first
    assert run_id({"run": {"id": "../../x"}}).isalnum(), "it comes from a file"
    assert run_id({}).isalnum()


def test_loggers_drop_the_steps_that_are_logged_again(tmp_path):
    nodes = {
        "csv": {"_target_": CSV, "save_dir": str(tmp_path)},
        "tensorboard": {"_target_": TENSORBOARD, "save_dir": str(tmp_path)},
    }
    csv, tensorboard = build_loggers(nodes, "1a", {"global_step": 12})
    assert csv.first_step == 12
    assert tensorboard._kwargs["purge_step"] == 12
    csv, tensorboard = build_loggers(nodes, "1a", None)
    assert csv.first_step == 0
    assert "purge_step" not in tensorboard._kwargs


def test_wandb_continues_the_run(tmp_path):
    node = {"_target_": WANDB, "save_dir": str(tmp_path), "offline": True}
    assert build_loggers({"wandb": node}, "1a", None)[0]._wandb_init["id"] == "1a"
    assert build_loggers({"wandb": node | {"id": "own"}}, "1a", None)[0]._wandb_init["id"] == "own"


def test_wandb_gets_the_labels_that_the_configuration_does_not_give(tmp_path):
    node = {
        "_target_": WANDB,
        "save_dir": str(tmp_path),
        "offline": True,
        "name": None,
        "group": "own",
        "tags": [],
        "id": None,
    }
    settings = build_loggers({"wandb": node}, "1a", None, LABELS)[0]._wandb_init
    expected = {"name": "quickstart 1", "group": "own", "job_type": "pretrain", "tags": ["quickstart"], "id": "1a"}
    assert {key: settings[key] for key in expected} == expected


def test_a_given_identifier_is_that_of_the_run():
    assert run_id(None, {"csv": {}, "wandb": {"id": "agent1"}}) == "agent1"
    assert run_id({"run": {"id": "1a"}}, {"wandb": {"id": None}}) == "1a"


def test_loggers_of_lightning_are_continued_too(tmp_path):
    node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "save_dir": str(tmp_path), "offline": True}
    assert build_loggers({"wandb": node}, "1a", None)[0]._wandb_init["id"] == "1a"
