"""A folder with one image of every kind of trouble: ``python tests/worst_folder.py worst``."""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image


def write_worst_folder(root: Path) -> Path:
    """Write good images in many formats, odd ones, broken ones, duplicates, and files that are no images."""
    root.mkdir(parents=True, exist_ok=True)
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    flower = Image.fromarray(load_sample_image("flower.jpg"))
    for number, suffix in enumerate(("jpg", "png", "webp", "gif", "bmp", "tiff", "avif", "jp2", "ppm", "jfif")):
        left = 25 * number
        part = photograph.crop((left, left // 2, left + 240, left // 2 + 240))
        part.save(root / f"good {number}.{suffix}", **({"format": "JPEG"} if suffix == "jfif" else {}))
    sideways = Image.Exif()
    sideways[0x0112] = 6
    flower.crop((0, 0, 300, 200)).save(root / "sideways.jpg", exif=sideways)
    flower.crop((300, 0, 540, 240)).convert("CMYK").save(root / "cmyk.jpg")
    flower.crop((0, 200, 240, 420)).convert("P").save(root / "палитра 图片.png")
    flower.crop((100, 100, 107, 103)).save(root / "tiny.png")
    flower.resize((3000, 40)).save(root / "wide.png")
    photograph.save(root / "copy a.jpg", quality=95)
    (root / "copy b.jpg").write_bytes((root / "copy a.jpg").read_bytes())
    photograph.resize((320, 213)).save(root / "smaller copy.webp", quality=60)
    Image.new("RGB", (200, 200), (128, 128, 128)).save(root / "grey.png")
    values = np.asarray(photograph.convert("L"))[:200, :200].astype(np.uint16)
    Image.fromarray(values).save(root / "8 bits in 16.png")
    Image.fromarray(values.astype(np.float32) / 255).save(root / "float.tiff")
    buffer = io.BytesIO()
    flower.save(buffer, "JPEG")
    (root / "cut.jpg").write_bytes(buffer.getvalue()[:9000])
    (root / "empty.png").write_bytes(b"")
    (root / "page.jpg").write_text("<html>404</html>")
    (root / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (root / "dangling.jpg").symlink_to(root / "nowhere.jpg")
    for name in ("._good 0.jpg", ".hidden.jpg", "Thumbs.db", "__MACOSX/._a.jpg", "@eaDir/a.jpg", ".thumbnails/a.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    for name in ("notes.txt", "photo.heic", "old.tga", "set.zip", "no suffix"):
        (root / name).write_bytes(b"x")
    return root


if __name__ == "__main__":
    write_worst_folder(Path(sys.argv[1]))
