import pytest
import torch
from torch.nn import functional as F

from conmim_lightning.visualization.inputs import read_inputs
from conmim_lightning.visualization.retrieval import neighbor_panels


def test_neighbours_are_the_most_similar_other_images(encoder, source):
    gallery, _ = read_inputs(encoder, source, 6)
    panels = neighbor_panels(encoder, gallery, queries=2, neighbors=3)
    features = F.normalize(encoder.features(gallery.images), dim=-1)
    for query, row in zip((0, 2), panels, strict=True):
        order = [index for index in (features @ features[query]).argsort(descending=True).tolist() if index != query]
        assert row[0].title == "query"
        for panel, index in zip(row[1:], order[:3], strict=True):
            assert torch.equal(panel.image, gallery.shown[index])
            assert float(panel.title) == pytest.approx((features[query] @ features[index]).item(), abs=1e-3)


def test_mistakes(encoder, source):
    gallery, _ = read_inputs(encoder, source, 6)
    assert len(neighbor_panels(encoder, gallery, 1, 50)[0]) == 5, "there are only four others"
    with pytest.raises(ValueError, match="neighbors must be at least 1, got 0"):
        neighbor_panels(encoder, gallery, 1, 0)
    one, _ = read_inputs(encoder, source, 1)
    with pytest.raises(ValueError, match="at least 2 readable images, got 1"):
        neighbor_panels(encoder, one, 1, 1)
