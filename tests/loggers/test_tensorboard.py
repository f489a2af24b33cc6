import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conmim_lightning.loggers.media import MediaLogger, Picture
from conmim_lightning.loggers.tensorboard import RunTensorBoardLogger


def test_pictures_and_tables_are_in_the_record(tmp_path):
    logger = RunTensorBoardLogger(tmp_path, name="", version="")
    assert isinstance(logger, MediaLogger)
    picture = Picture(np.zeros((4, 5, 3), np.uint8), "cat.jpg", drawn=np.ones((8, 9, 3), np.uint8))
    for step in (3, 6):
        logger.log_pictures("val/predictions", [picture], step)
    logger.log_rows("test/per_class", ["class", "top1"], [["a|b", 0.5]], 6)
    logger.finalize("success")
    record = EventAccumulator(str(tmp_path)).Reload()
    images = record.Images("val/predictions/0")
    assert [(image.step, image.height, image.width) for image in images] == [(3, 8, 9), (6, 8, 9)]
    texts = {tag: record.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in record.Tags()["tensors"]}
    assert texts["val/predictions/0/caption/text_summary"] == "cat.jpg"
    assert texts["test/per_class/text_summary"] == "| class | top1 |\n| --- | --- |\n| a\\|b | 0.5 |"
