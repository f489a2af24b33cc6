"""Reading a collection once, image by image: what each one is, and a fingerprint of its bytes and of its looks."""

import hashlib
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import BrokenImageError
from conmim_lightning.data.loaders import one_thread
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Source

_BATCH = 32


class Found(NamedTuple):
    """What one image is; of a broken one only ``reason`` says anything."""

    format: str = ""
    width: int = 0
    height: int = 0
    size: int = 0  # bytes
    digest: bytes = b""
    looks: int = 0
    reason: str = ""


class Survey(NamedTuple):
    """What every image of a collection is, N images.

    Attributes:
        formats: N names; empty for broken images.
        widths: (N,) int64 in pixels; 0 for broken images, as the following.
        heights: (N,) int64 in pixels.
        sizes: (N,) int64 in bytes.
        digests: N fingerprints of the bytes (BLAKE2b, 128 bits).
        looks: (N,) uint64 perceptual hash: similar images differ in few bits; 0 where it was not asked for.
        reasons: N texts, empty unless the image is broken.
    """

    formats: list[str]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    sizes: NDArray[np.int64]
    digests: list[bytes]
    looks: NDArray[np.uint64]
    reasons: list[str]


class _Looking(Dataset[Found]):
    def __init__(self, source: Source, decoder: Decoder, with_looks: bool) -> None:
        self.source = source
        self.decoder = decoder
        self.with_looks = with_looks

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Found:
        try:
            content = self.source.read(SampleKey(0, index), self.decoder.max_bytes)
            picture = self.decoder.open(content)
            pixels = picture.whole()
        except BrokenImageError as error:
            return Found(reason=str(error))
        looks = perceptual_hash(pixels.permute(1, 2, 0).numpy()) if self.with_looks else 0
        digest = hashlib.blake2b(content, digest_size=16).digest()
        return Found(picture.format, picture.width, picture.height, len(content), digest, looks)


def survey(source: Source, decoder: Decoder, *, num_workers: int, with_looks: bool) -> Survey:
    """Read and decode every image once, in parallel, with a progress bar.

    Args:
        source: images with fixed numbers.
        decoder: of their bytes; its limits count as broken.
        num_workers: processes.
        with_looks: also make perceptual hashes (needs imagehash).

    Raises:
        ValueError: the source is a stream, or imagehash is missing.
    """
    if not source.fixed:
        raise ValueError(f"{source.root!r} is a stream; inspect its shards where they lie, with data=shards")
    if with_looks:
        _imagehash()
    loader: Any = DataLoader(
        _Looking(source, decoder, with_looks),
        batch_size=_BATCH,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=one_thread,
    )
    found: list[Found] = []
    with tqdm(total=len(source), desc="inspecting", unit="img", leave=False) as bar:
        for batch in loader:
            found += batch
            bar.update(len(batch))
    columns: Any = list(zip(*found, strict=True))
    widths, heights, sizes = (np.asarray(column, np.int64) for column in columns[1:4])
    looks = np.asarray(columns[5], np.uint64)
    return Survey(list(columns[0]), widths, heights, sizes, list(columns[4]), looks, list(columns[6]))


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """64 bits of the image's coarse structure (imagehash's phash: signs of its lowest cosine coefficients).

    Args:
        pixels: (H, W, C).
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
    bits = cast(Any, _imagehash().phash(image)).hash.flatten()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _imagehash() -> Any:
    try:
        import imagehash
    except ImportError as error:
        raise ValueError(
            "perceptual hashes need imagehash: pip install 'conmim-lightning[inspect]', or inspect.near_bits=null"
        ) from error
    return imagehash
