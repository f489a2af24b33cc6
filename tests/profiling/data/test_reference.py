import torch

from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.synthetic.photos import write_photos
from conmim_lightning.profiling.data.reference import OfficialPipeline


def test_the_official_pipeline_returns_two_float_views_and_a_mask(tmp_path):
    write_photos(tmp_path, count=1)
    content = FolderSource(tmp_path / "folder").read(SampleKey(0, 0))
    weak, strong, mask = OfficialPipeline(224)(content)
    assert weak.shape == strong.shape == (3, 224, 224)
    assert weak.dtype == strong.dtype == torch.float32
    assert mask.shape == (14, 14)
    assert mask.sum() == 37 * 4
