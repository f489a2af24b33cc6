from conmim_lightning.runtime.loggers import build_loggers, run_id

CSV = "conmim_lightning.loggers.csv.RunCSVLogger"
TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"


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
    node = {"_target_": "lightning.pytorch.loggers.WandbLogger", "save_dir": str(tmp_path), "offline": True}
    assert build_loggers({"wandb": node}, "1a", None)[0]._wandb_init["id"] == "1a"
    assert build_loggers({"wandb": node | {"id": "own"}}, "1a", None)[0]._wandb_init["id"] == "own"
