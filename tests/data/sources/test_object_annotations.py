from coco_files import source, write_images

from conmim_lightning.data.sources.object_annotations import ObjectAnnotations


def test_shapes_and_types(tmp_path):
    found = source(write_images(tmp_path)).annotation(2)
    assert isinstance(found, ObjectAnnotations)
    assert [(array.shape, array.dtype.name) for array in found[:4]] == [
        ((2, 4), "float32"),
        ((2,), "int64"),
        ((2,), "bool"),
        ((2,), "float32"),
    ]
    assert len(found.outlines) == 2
    assert found.size == (50, 40)
