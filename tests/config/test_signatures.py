import pytest
from hydra.errors import ConfigCompositionException

from conmim_lightning.config.check import ConfigError, check
from conmim_lightning.config.signatures import allowed, signature_faults, targets

FINETUNE = ["experiment=vit_b_finetune", "backbone.weights=null"]


def test_every_target_is_listed_with_its_name():
    node = {"a": {"_target_": "x", "b": {"_target_": "y"}}, "c": [{"_target_": "z"}, 3], "d": {"e": 1}}
    assert [(name, target["_target_"]) for name, target in targets(node, "")] == [
        ("a", "x"),
        ("a.b", "y"),
        ("c.0", "z"),
    ]


@pytest.mark.parametrize(
    ("node", "faults"),
    [
        ({"_target_": "fractions.Fraction", "numerator": 1}, []),
        ({"_target_": "conmim_lightning.models.projector.Projector", "in_dim": 4, "hidden_dim": 4, "out_dim": 4}, []),
        ({"_target_": "conmim_lightning.models.projector.Projector", "_partial_": True, "out_dim": 4}, []),
        ({"_target_": "conmim_lightning.models.projector.Projector", "out_dim": 4}, ["in_dim"]),
        ({"_target_": "conmim_lightning.models.projector.Projector", "_partial_": True, "outdim": 4}, ["outdim"]),
        ({"_target_": "no_such_module.x"}, ["_target_"]),
        ({"_target_": "fractions.NoSuchClass"}, ["_target_"]),
    ],
)
def test_arguments_are_compared_with_the_signature(node, faults):
    assert [key for key, _ in signature_faults(node)] == faults


def test_keywords_that_a_class_passes_on_are_those_of_its_base():
    target = "conmim_lightning.data.datamodules.classification.ClassificationDataModule"
    faults = dict(signature_faults({"_target_": target, "root": "x", "num_classes": 2, "batchsize": 4}))
    assert faults["batchsize"].split("did you mean ")[1].startswith("batch_size ")


def test_the_closest_key_is_suggested():
    assert allowed("bat", ["batch", "seed"]) == "did you mean batch? allowed are batch, seed"
    assert allowed("zzz", ["batch", "seed"]) == "allowed are batch, seed"


@pytest.mark.parametrize(
    ("overrides", "suggestion"),
    [
        (["+task.model.projected=all"], "project"),
        (["+task.model.attention=fused"], "attn_implementation"),
        (["+schedule.accumulate=2"], "accumulate_grad_batches"),
        (["+schedule.clip_norm=1"], "max_grad_norm"),
        (["+schedule.reference_batch=256"], "base_batch_size"),
        (["+schedule.momentum_start=0.9"], "teacher_momentum_start"),
        ([*FINETUNE, "+data.subset_share=0.1"], "subset_fraction"),
        ([*FINETUNE, "+data.held_out_share=0.1"], "held_out_fraction"),
        ([*FINETUNE, "+backbone.allow=[head]"], "allow_mismatch"),
        ([*FINETUNE, "+backbone.head_scale=1"], "head_init_scale"),
        ([*FINETUNE, "+task.erasing=null"], "random_erasing"),
        (["+callbacks.broken_images.max_share=0.1"], "max_fraction"),
        (["+data.keep_decoded=true"], "cache_decoded"),
    ],
)
def test_an_old_key_is_answered_with_the_new_one(composed, overrides, suggestion):
    with pytest.raises(ConfigError, match=rf"did you mean .*{suggestion}\b.*\?"):
        check(composed("data.root=.", *overrides))


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [("schedule.accumulate=2", "accumulate_grad_batches"), ("data.batchsize=2", "batch_size")],
)
def test_an_unknown_key_without_plus_is_an_error_of_hydra(composed, override, suggestion):
    with pytest.raises(ConfigCompositionException, match=override.split("=")[0]):
        composed("data.root=.", override)
