"""The official list is in test_golden.py; here what it does not hold."""

import torch
from conftest import beit

from conmim_lightning.models.encoder import Encoder
from conmim_lightning.optim.param_groups import decay_groups, decays


def test_positions_and_registers_do_not_decay():
    parameters = dict(Encoder(beit(use_abs_pos_emb=True, use_shared_rel_pos_bias=False)).named_parameters())
    assert not decays("backbone.pos_embed", parameters["backbone.pos_embed"])
    assert not decays("backbone.reg_token", torch.nn.Parameter(torch.zeros(1, 2, 3)))
    assert decays("mask_token", parameters["mask_token"])


def test_groups_hold_every_trained_parameter_once():
    encoder = Encoder(beit())
    encoder.mask_token.requires_grad_(False)
    groups = decay_groups(encoder.named_parameters())
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in encoder.parameters() if p.requires_grad)
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]
