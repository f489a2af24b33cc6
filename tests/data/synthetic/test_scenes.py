import numpy as np
import pytest
import torch
from conftest import beit

from conmim_lightning.data.synthetic.scenes import SHAPES, draw_scene
from conmim_lightning.metrics.dense_probe import DenseProbe, patch_targets
from conmim_lightning.models.encoder import Encoder

SIZE = 48


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(0, index, SIZE) for index in range(500)]


def test_seed_and_index_determine_every_pixel():
    one, other = draw_scene(1, 2, SIZE), draw_scene(1, 2, SIZE)
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.class_map, other.class_map)
    assert not np.array_equal(one.image, draw_scene(1, 3, SIZE).image)
    assert not np.array_equal(one.image, draw_scene(2, 2, SIZE).image)


def test_objects_and_class_map_agree(scenes):
    for scene in scenes[:50]:
        assert scene.image.shape == (SIZE, SIZE, 3)
        covered = np.zeros((SIZE, SIZE), int)
        for scene_object in scene.objects:
            assert (scene.class_map[scene_object.mask] == scene_object.label + 1).all()
            covered += scene_object.mask
        assert covered.max() <= 1  # a hidden pixel belongs to the object in front
        assert np.array_equal(covered == 1, scene.class_map > 0)


def test_several_objects_of_every_class_and_some_hidden(scenes):
    assert {scene_object.label for scene in scenes for scene_object in scene.objects} == set(range(len(SHAPES)))
    assert np.mean([len(scene.objects) for scene in scenes]) > 3


def test_objects_cover_all_positions_equally(scenes):
    cover = np.mean([scene.class_map > 0 for scene in scenes], 0)
    thirds = cover.reshape(3, SIZE // 3, 3, SIZE // 3).mean((1, 3))
    assert thirds.min() > 0.8 * thirds.max()


def test_colour_does_not_reveal_the_class(scenes):
    means = [
        (scene_object.label, scene.image[scene_object.mask].mean(0))
        for scene in scenes
        for scene_object in scene.objects
        if scene_object.mask.sum() > 30
    ]
    background = np.mean([scene.image[scene.class_map == 0].mean(0) for scene in scenes], 0)
    for label in range(len(SHAPES)):
        colour = np.mean([mean for number, mean in means if number == label], 0)
        assert np.abs(colour - background).max() < 15


@pytest.mark.slow
def test_raw_pixels_and_random_weights_are_near_chance(scenes):
    encoder = Encoder(beit(img_size=48, embed_dim=128, depth=4, num_heads=4, init_values=1.0), locality=1.5).eval()
    images = torch.stack([torch.from_numpy(scene.image.copy()).permute(2, 0, 1) for scene in scenes]).float() / 64 - 2
    maps = torch.stack([torch.from_numpy(scene.class_map).to(torch.int16) - 1 for scene in scenes])
    targets = patch_targets(maps, (6, 6), len(SHAPES))
    pixels = torch.nn.functional.unfold(images, 8, stride=8).transpose(1, 2)
    with torch.no_grad():
        tokens = encoder.patch_tokens(images)
    for features in (pixels, tokens):
        probe = DenseProbe(num_classes=len(SHAPES))
        for split, reference in ((slice(0, 350), True), (slice(350, 500), False)):
            probe.update(features[split], type(targets)(*(t[split] for t in targets)), reference=reference)
        aurocs = probe.compute()
        assert max(aurocs["object"], aurocs["border"]) < 0.56, aurocs


@pytest.mark.parametrize("arguments", [(0, 0, 16), (-1, 0, 48), (0, -1, 48)])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="a scene needs"):
        draw_scene(*arguments)
