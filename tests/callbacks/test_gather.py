from lightning import Trainer

from conmim_lightning.callbacks.gather import gather_objects


def test_one_device_has_its_own_list():
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, barebones=True)
    assert gather_objects(trainer, ["a", 1]) == ["a", 1]


def test_lists_are_in_the_order_of_ranks(monkeypatch):
    def all_gather_object(lists, own):
        lists[:] = [["first"], own]

    monkeypatch.setattr("torch.distributed.all_gather_object", all_gather_object)
    trainer = type("Trainer", (), {"world_size": 2})
    assert gather_objects(trainer, ["second", "third"]) == ["first", "second", "third"]
