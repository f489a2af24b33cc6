import pytest
import torch
from conftest import beit
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.resnet import resnet18
from timm.models.vision_transformer import VisionTransformer

from conmim_lightning.models.encoder import Encoder

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}


def backbones():
    return {
        "beit": beit(),
        "beit with absolute positions": beit(use_abs_pos_emb=True, use_shared_rel_pos_bias=False),
        "vit": VisionTransformer(**SMALL, global_pool="token", init_values=0.1),
        "vit with registers": VisionTransformer(**SMALL, global_pool="token", reg_tokens=3, no_embed_class=True),
        "eva": Eva(**SMALL, global_pool="token", use_abs_pos_emb=False, use_rot_pos_emb=True),
    }


@pytest.mark.parametrize("family", backbones())
def test_without_a_mask_it_is_timms_forward(family):
    encoder = Encoder(backbones()[family]).eval()
    for parameter in encoder.parameters():  # zero-initialised positions would hide a missing term
        torch.nn.init.normal_(parameter, std=0.2)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encoder(images), encoder.backbone.forward_features(images))


@pytest.mark.parametrize("family", backbones())
def test_tokens_of_a_block_are_timms_intermediates(family):
    encoder = Encoder(backbones()[family]).eval()
    images = torch.randn(2, 3, 32, 32)
    wanted = encoder.backbone.forward_intermediates(
        images, indices=[0], norm=False, output_fmt="NLC", intermediates_only=True
    )[0]
    torch.testing.assert_close(encoder.patch_tokens(images, block=0), wanted)
    assert encoder.patch_tokens(images).shape == (2, 16, 16)


@pytest.mark.parametrize("family", backbones())
def test_hidden_patches_have_no_effect(family):
    encoder = Encoder(backbones()[family]).eval()
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 1:3, 2:] = True
    images = torch.randn(2, 3, 32, 32)
    pixels = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    torch.testing.assert_close(encoder(torch.where(pixels, 9.0, images), mask), encoder(images, mask))
    assert not torch.allclose(encoder(images, mask), encoder(images))


def test_masking_puts_the_token_after_the_patch_embedding():
    encoder = Encoder(beit(depth=1)).eval()
    torch.nn.init.normal_(encoder.mask_token)
    inputs_seen = []
    encoder.backbone.blocks[0].norm1.register_forward_pre_hook(lambda module, inputs: inputs_seen.append(inputs[0]))
    mask = torch.rand(2, 4, 4) < 0.5
    images = torch.randn(2, 3, 32, 32)
    encoder(images, mask)
    tokens, patches = inputs_seen[0][:, 1:], encoder.backbone.patch_embed(images)
    assert (tokens[mask.flatten(1)] == encoder.mask_token.flatten()).all()
    assert torch.equal(tokens[~mask.flatten(1)], patches[~mask.flatten(1)])


@pytest.mark.parametrize(("img_size", "patch_size"), [(224, 16), (96, 16), (64, 8)])
@pytest.mark.parametrize("in_chans", [1, 3, 4])
def test_sizes_and_channels(img_size, patch_size, in_chans):
    encoder = Encoder(beit(img_size=img_size, patch_size=patch_size, in_chans=in_chans))
    side = img_size // patch_size
    mask = torch.rand(1, side, side) < 0.5
    assert encoder(torch.randn(1, in_chans, img_size, img_size), mask).shape == (1, side**2 + 1, 16)
    assert encoder.grid_size == (side, side)


def test_initial_weights_are_the_official_ones():
    encoder = Encoder(beit(embed_dim=64, depth=3, num_heads=2))
    qkv, patch = encoder.backbone.get_parameter("blocks.0.attn.qkv.weight"), encoder.backbone.patch_embed.proj.weight
    for weight in (qkv, patch, encoder.mask_token, encoder.backbone.cls_token):
        assert 0.015 < weight.abs().max() <= 0.02
    for layer in range(3):
        for name in ("attn.proj", "mlp.fc2"):
            weight = encoder.backbone.get_parameter(f"blocks.{layer}.{name}.weight")
            assert weight.abs().max().item() == pytest.approx(0.02 / (2 * (layer + 1)) ** 0.5, rel=0.02)
    assert encoder.backbone.get_parameter("rel_pos_bias.relative_position_bias_table").abs().max() == 0
    assert encoder.backbone.get_parameter("blocks.0.mlp.fc1.bias").abs().max() == 0


def test_locality_makes_attention_fall_with_distance():
    encoder = Encoder(beit(), locality=1.5)
    bias = encoder.backbone.rel_pos_bias()[:, 1:, 1:]  # (heads, N, N)
    assert bias[0, 0, 0] == 0
    assert bias[0, 0, 1].item() == pytest.approx(-1.5)
    assert bias[0, 0, 5].item() == pytest.approx(-1.5 * 2**0.5)
    assert bias[-1].abs().max() == 0
    assert torch.equal(bias, bias.transpose(1, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resnet18(), "ResNet"),
        (lambda: Beit(img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2), "num_classes=0"),
        (lambda: beit(global_pool="avg"), "global_pool='token'"),
    ],
)
def test_backbones_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        Encoder(make())


def test_locality_needs_a_shared_table():
    with pytest.raises(ValueError, match="locality"):
        Encoder(backbones()["vit"], locality=1.0)


def test_dropout_of_positions_has_its_effect():
    encoder = Encoder(beit(pos_drop_rate=0.9))
    images = torch.randn(2, 3, 32, 32)
    encoder.eval()
    whole = encoder(images)
    encoder.train()
    assert not torch.allclose(encoder(images), whole)


def test_backbones_that_drop_patches_are_rejected():
    backbone = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=1,
        num_heads=2,
        num_classes=0,
        global_pool="token",
        patch_drop_rate=0.5,
    )
    with pytest.raises(ValueError, match="patch_drop_rate"):
        Encoder(backbone)
