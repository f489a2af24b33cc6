import pytest

from conmim_lightning.visualization.figures import Pictures, available
from conmim_lightning.visualization.models import NamedModel

CONFIG = {
    "file_format": "pdf", "pictures": 2, "gallery": 4, "neighbors": 2, "layer": -1, "heads": None, "patch": None,
    "interpolate": False,
}  # fmt: skip


def test_kinds_that_all_models_have(encoder):
    with_task, without = NamedModel("a", encoder, object()), NamedModel("b", encoder, None)
    assert "queries" in available([with_task])
    assert "queries" not in available([with_task, without])


@pytest.mark.parametrize("kind", ["attention", "similarity", "pca", "neighbors"])
def test_files_of_a_model(encoder, source, tmp_path, kind):
    pictures = Pictures([NamedModel("a", encoder, None)], source, CONFIG, {}, encoder.transform.decoder)
    path = pictures.save(kind, tmp_path / "out")
    assert path == tmp_path / "out" / f"{kind}.pdf"
    assert path.read_bytes().startswith(b"%PDF")


def test_images_that_cannot_be_read_are_named(encoder, source, tmp_path, capsys):
    Pictures([NamedModel("a", encoder, None)], source, CONFIG | {"pictures": 6}, {}, encoder.transform.decoder).save(
        "pca", tmp_path
    )
    assert "cannot be read: 5.png: " in capsys.readouterr().out


def test_unknown_formats(encoder, source):
    with pytest.raises(ValueError, match="file_format must be one of png, pdf, svg, got 'gif'"):
        Pictures(
            [NamedModel("a", encoder, None)], source, CONFIG | {"file_format": "gif"}, {}, encoder.transform.decoder
        )
