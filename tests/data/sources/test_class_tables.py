from conmim_lightning.data.sources.class_tables import COLORS, IGNORED_COLORS, IGNORED_VALUES, VALUES


def test_the_tables_are_consistent():
    assert {name: len(table) for name, table in COLORS.items()} == {"cityscapes": 19, "pascal_voc": 21}
    for name, table in COLORS.items():
        assert list(VALUES[name]) == list(table)
        assert len(set(table.values())) == len(set(VALUES[name].values())) == len(table), "no repetition"
        assert not set(IGNORED_COLORS[name]) & set(table.values())
        assert not set(IGNORED_VALUES[name]) & set(VALUES[name].values())


def test_pascal_voc_colours_follow_its_rule():
    """VOC's palette spreads the bits of the class index over the three channels."""
    for index, color in enumerate(COLORS["pascal_voc"].values()):
        expected = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                expected[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        assert tuple(expected) == color


def test_cityscapes_ids():
    """Label ids 0 to 33, of which 19 are evaluated."""
    assert set(range(34)) == set(VALUES["cityscapes"].values()) | (set(IGNORED_VALUES["cityscapes"]) - {255})
