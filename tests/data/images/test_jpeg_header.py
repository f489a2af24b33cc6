from io import BytesIO

from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.images.jpeg_header import jpeg_header


def jpeg(**options) -> bytes:
    with BytesIO() as buffer:
        Image.fromarray(load_sample_image("china.jpg")[:64, :48]).save(buffer, "JPEG", **options)
        return buffer.getvalue()


def test_exif_and_progressive_files():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert jpeg_header(jpeg()) == (False, False, True)
    assert jpeg_header(jpeg(exif=exif.tobytes())) == (True, False, True)
    assert jpeg_header(jpeg(progressive=True)) == (False, True, True)


def test_damaged_headers_end():
    content = jpeg(progressive=True)
    assert content.index(b"\xff\xda") < 1000
    for length in range(1000):
        assert jpeg_header(content[:length]).complete == (length > content.index(b"\xff\xda") + 3)
    assert jpeg_header(b"") == jpeg_header(b"\xff\xd8" + bytes(50)) == (False, False, False)
    zero_length = b"\xff\xd8\xff\xe0\x00\x00" * 3
    assert jpeg_header(zero_length) == (False, False, False)
