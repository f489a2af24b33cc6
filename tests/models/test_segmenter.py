from functools import partial

import pytest
import torch

from conmim_lightning.models.backbones import vit
from conmim_lightning.models.segmentation_heads import UperHead
from conmim_lightning.models.segmenter import Segmenter


def backbone():
    return vit(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, shared_rel_pos_bias=False)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_segmenter(norm):
    model = Segmenter(
        backbone=backbone(),
        num_classes=5,
        size=48,
        out_indices=[0, 1, 2, 3],
        head=partial(UperHead, channels=8, norm=norm),
    )
    output = model(torch.randn(1 if norm == "group" else 2, 3, 48, 48))
    assert output.scores.shape[1:] == output.auxiliary.shape[1:] == (5, 48, 48)
    (output.scores.sum() + output.auxiliary.sum()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert model.eval()(torch.randn(1, 3, 40, 64)).auxiliary is None
    with pytest.raises(ValueError, match=r"needs 4 maps, but out_indices=\[1, 3\]"):
        Segmenter(backbone=backbone(), num_classes=5, size=48, out_indices=[1, 3], head=UperHead)
