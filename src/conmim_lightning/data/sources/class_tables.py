"""Colours and values of the classes in well-known collections of class maps."""

CITYSCAPES_COLORS = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
"""The 19 classes that Cityscapes evaluates, in the order of its train ids, in ``*_gtFine_color.png``."""

_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

PASCAL_VOC_COLORS = {
    "background": (0, 0, 0),
    "aeroplane": (128, 0, 0),
    "bicycle": (0, 128, 0),
    "bird": (128, 128, 0),
    "boat": (0, 0, 128),
    "bottle": (128, 0, 128),
    "bus": (0, 128, 128),
    "car": (128, 128, 128),
    "cat": (64, 0, 0),
    "chair": (192, 0, 0),
    "cow": (64, 128, 0),
    "diningtable": (192, 128, 0),
    "dog": (64, 0, 128),
    "horse": (192, 0, 128),
    "motorbike": (64, 128, 128),
    "person": (192, 128, 128),
    "pottedplant": (0, 64, 0),
    "sheep": (128, 64, 0),
    "sofa": (0, 192, 0),
    "train": (128, 192, 0),
    "tvmonitor": (0, 64, 128),
}
"""The 21 classes of Pascal VOC 2012, in the order of the indices in its palette maps."""

COLORS = {"cityscapes": CITYSCAPES_COLORS, "pascal_voc": PASCAL_VOC_COLORS}
"""Tables of colours by name, for ``data.source.colors``."""

IGNORED_COLORS = {
    "cityscapes": (
        (0, 0, 0),
        (20, 20, 20),
        (111, 74, 0),
        (81, 0, 81),
        (250, 170, 160),
        (230, 150, 140),
        (180, 165, 180),
        (150, 100, 100),
        (150, 120, 90),
        (0, 0, 90),
        (0, 0, 110),
    ),
    "pascal_voc": ((224, 224, 192),),
}
"""Colours without a class, by the table's name: Cityscapes' other labels, the borders of objects in Pascal VOC."""

VALUES = {
    "cityscapes": dict(zip(CITYSCAPES_COLORS, _CITYSCAPES_IDS, strict=True)),
    "pascal_voc": {name: number for number, name in enumerate(PASCAL_VOC_COLORS)},
}
"""Tables of values by name, for ``data.source.values``: Cityscapes' ``*_gtFine_labelIds.png``, Pascal VOC's indices."""

IGNORED_VALUES = {
    "cityscapes": tuple(value for value in (*range(34), 255) if value not in _CITYSCAPES_IDS),
    "pascal_voc": (255,),
}
"""Values without a class, by the table's name."""
