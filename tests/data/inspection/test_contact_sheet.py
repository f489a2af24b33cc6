import numpy as np
from PIL import Image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.inspection.contact_sheet import contact_sheet
from conmim_lightning.data.sources.folder import FolderSource


def test_squares_stand_in_rows(tmp_path):
    root = tmp_path / "images"
    root.mkdir()
    for index, value in enumerate((50, 150, 250)):
        Image.new("L", (40, 30), value).save(root / f"{index}.png")
    (root / "3.png").write_bytes(b"nothing")
    path = tmp_path / "out" / "sheet.png"
    contact_sheet(FolderSource(root), Decoder(channels=1), [[0, 1], [2, 3], [0]], path, findings={3: "broken"}, side=10)
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape == (3 * 36 + 4, 2 * 14 + 4, 3)
    centres = [[int(pixels[9 + 36 * row, 9 + 14 * column, 0]) for column in range(2)] for row in range(3)]
    assert centres == [[50, 150], [250, 220], [50, 255]], "a broken image is crossed, the end of a row is white"
    assert pixels[9 + 36, 7 + 14, 0] == 96, "on grey"
    assert pixels[14:25, 4:14].min() < 100, "a name below the image"
    flags = pixels[36 + 25 : 36 + 36, 18:28].astype(int)
    assert (flags[..., 0] - flags[..., 1]).max() > 50, "in red, what was found"
    assert (pixels[36 + 25 : 36 + 36, 4:14] == 255).all(), "nothing was found"
