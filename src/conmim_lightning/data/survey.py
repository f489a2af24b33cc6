"""Reading a collection once, image by image: what each one is, and a fingerprint of its bytes and of its looks."""

import hashlib
from collections.abc import Callable
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

Faults = Callable[[Source, int, int, int], str]
"""Says what is wrong with an image's annotation, given source, number, height and width; empty if nothing is."""


class Found(NamedTuple):
    """What one image is; of a broken one only ``reason`` says anything."""

    format: str = ""
    width: int = 0
    height: int = 0
    size: int = 0  # bytes
    digest: bytes = b""
    looks: int = 0
    reason: str = ""
    annotation: str = ""


class Survey:
    """What every image of a collection is, N images, in flat arrays.

    Args:
        count: N.

    Attributes:
        formats: (N,) uint8 places in ``format_names``; 0, which has no name, for broken images.
        format_names: as they were met.
        widths: (N,) int64 in pixels; 0 for broken images, as the following.
        heights: (N,) int64 in pixels.
        sizes: (N,) int64 in bytes.
        digests: (N, 2) uint64 fingerprint of the bytes (BLAKE2b, 128 bits).
        looks: (N,) uint64 perceptual hash: similar images differ in few bits; 0 where it was not asked for.
        broken: number and reason of every broken image.
        annotations: number and reason of every other image whose annotation is at fault.
    """

    def __init__(self, count: int) -> None:
        self.formats = np.zeros(count, np.uint8)
        self.format_names = [""]
        self.widths, self.heights, self.sizes = (np.zeros(count, np.int64) for _ in range(3))
        self.digests = np.zeros((count, 2), np.uint64)
        self.looks = np.zeros(count, np.uint64)
        self.broken: dict[int, str] = {}
        self.annotations: dict[int, str] = {}

    def note(self, number: int, found: Found) -> None:
        """Keep what one image is."""
        if found.reason:
            self.broken[number] = found.reason
            return
        if found.annotation:
            self.annotations[number] = found.annotation
        if found.format not in self.format_names:
            self.format_names.append(found.format)
        self.formats[number] = self.format_names.index(found.format)
        self.widths[number], self.heights[number], self.sizes[number] = found.width, found.height, found.size
        self.digests[number] = np.frombuffer(found.digest, np.uint64)
        self.looks[number] = found.looks


class _Looking(Dataset[Found]):
    def __init__(self, source: Source, decoder: Decoder, with_looks: bool, faults: Faults | None) -> None:
        self.faults = faults
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
        height, width = picture.height, picture.width
        fault = self.faults(self.source, index, height, width) if self.faults else ""
        return Found(picture.format, width, height, len(content), digest, looks, annotation=fault)


def survey(
    source: Source, decoder: Decoder, *, num_workers: int, with_looks: bool, faults: Faults | None = None
) -> Survey:
    """Read and decode every image once, in parallel, with a progress bar.

    Args:
        source: images with fixed numbers.
        decoder: of their bytes; its limits count as broken.
        num_workers: processes.
        with_looks: also make perceptual hashes (needs imagehash).
        faults: also look for faults of annotations; None where there are none.

    Raises:
        ValueError: the source is a stream, or imagehash is missing.
    """
    if not source.fixed:
        raise ValueError(f"{source.root!r} is a stream; inspect its shards where they lie, with data=shards")
    if with_looks:
        _imagehash()
    loader: Any = DataLoader(
        _Looking(source, decoder, with_looks, faults),
        batch_size=_BATCH,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=one_thread,
    )
    account, number = Survey(len(source)), 0
    with tqdm(total=len(source), desc="inspecting", unit="img", leave=False) as bar:
        for batch in loader:
            for found in batch:
                account.note(number, found)
                number += 1
            bar.update(len(batch))
    return account


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
