"""Format, size, digest and perceptual hash of every image of a collection."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.loaders import start_worker
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source

_BATCH = 32
CONSTANT = 2.0
"""Contrast in grey levels below which an image is nearly constant."""

DARK = 32
"""Grey level that an image of normal exposure exceeds; 12 bits that are read as 16 reach 15."""

_SIDE = 256  # pixels of a side that are looked at


class AnnotationRecord(NamedTuple):
    """Properties of the annotation of one image.

    Attributes:
        fault: what is wrong; empty if nothing is.
        counts: (K,) number of objects or pixels per class; None if they are not known.
    """

    fault: str = ""
    counts: NDArray[np.int64] | None = None


AnnotationCheck = Callable[[Source, int, int, int], AnnotationRecord]
"""Function of source, index, height and width."""


class ImageRecord(NamedTuple):
    """Properties of one image; a broken image has only ``reason``."""

    format: str = ""
    width: int = 0
    height: int = 0
    size: int = 0  # bytes
    digest: bytes = b""
    hash: int = 0
    reason: str = ""
    annotation: AnnotationRecord = AnnotationRecord()
    faint: str = ""  # what is wrong with the contrast


class Survey:
    """Properties of every image of a collection, N images, in flat arrays.

    Args:
        count: number of images N.

    Attributes:
        formats: (N,) uint8 indices into ``format_names``; 0, the empty name, for broken images.
        format_names: names of the formats, in the order of appearance.
        widths: (N,) int64 pixels; 0 for broken images, as in the following arrays.
        heights: (N,) int64 pixels.
        sizes: (N,) int64 bytes.
        digests: (N, 2) uint64 digest of the bytes (BLAKE2b, 128 bits).
        hashes: (N,) uint64 perceptual hashes, which differ in few bits for similar images; 0 if they were not computed.
        constant: reason by index of any image that is constant or nearly so.
        broken: reason by index of the broken image.
        annotations: reason by index of any other image with an invalid annotation.
        class_counts: (K,) number of objects or pixels per class; None if there are no annotations.
    """

    def __init__(self, count: int) -> None:
        self.formats = np.zeros(count, np.uint8)
        self.format_names = [""]
        self.widths, self.heights, self.sizes = (np.zeros(count, np.int64) for _ in range(3))
        self.digests = np.zeros((count, 2), np.uint64)
        self.hashes = np.zeros(count, np.uint64)
        self.constant: dict[int, str] = {}
        self.broken: dict[int, str] = {}
        self.annotations: dict[int, str] = {}
        self.class_counts: NDArray[np.int64] | None = None

    def add(self, index: int, image: ImageRecord) -> None:
        """Add the properties of one image."""
        if image.reason:
            self.broken[index] = image.reason
            return
        if image.faint:
            self.constant[index] = image.faint
        if image.annotation.fault:
            self.annotations[index] = image.annotation.fault
        if (counts := image.annotation.counts) is not None:
            self.class_counts = counts if self.class_counts is None else self.class_counts + counts
        if image.format not in self.format_names:
            self.format_names.append(image.format)
        self.formats[index] = self.format_names.index(image.format)
        self.widths[index], self.heights[index], self.sizes[index] = image.width, image.height, image.size
        self.digests[index] = np.frombuffer(image.digest, np.uint64)
        self.hashes[index] = image.hash


class _RecordDataset(Dataset[ImageRecord]):
    def __init__(
        self, source: Source, decoder: Decoder, with_hashes: bool, annotation_check: AnnotationCheck | None
    ) -> None:
        self.source = source
        self.decoder = decoder
        self.with_hashes = with_hashes
        self.annotation_check = annotation_check

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> ImageRecord:
        try:
            content = self.source.read(SampleKey(0, index), self.decoder.max_bytes)
            image = self.decoder.open(content)
            pixels = image.whole()
        except BrokenImageError as error:
            return ImageRecord(reason=str(error))
        height, width, check = image.height, image.width, self.annotation_check
        return ImageRecord(
            format=image.format,
            width=width,
            height=height,
            size=len(content),
            digest=hashlib.blake2b(content, digest_size=16).digest(),
            hash=perceptual_hash(pixels.permute(1, 2, 0).numpy()) if self.with_hashes else 0,
            annotation=check(self.source, index, height, width) if check else AnnotationRecord(),
            faint=faintness(pixels),
        )


def survey(
    source: Source,
    decoder: Decoder,
    *,
    num_workers: int,
    with_hashes: bool,
    annotation_check: AnnotationCheck | None = None,
) -> Survey:
    """Read and decode every image once, in parallel, with a progress bar.

    Args:
        source: source of images with fixed indices.
        decoder: decoder of the image bytes; images beyond its limits count as broken.
        num_workers: number of processes.
        with_hashes: also compute perceptual hashes (needs imagehash).
        annotation_check: function that checks annotations; None if there are no annotations.

    Raises:
        ValueError: the source is a stream, or imagehash is not installed.
    """
    if not source.fixed:
        raise ValueError(f"{source.root!r} is a stream; inspect its shards as local files, with data=shards")
    if with_hashes:
        _imagehash()
    loader: Any = DataLoader(
        _RecordDataset(source, decoder, with_hashes, annotation_check),
        batch_size=_BATCH,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=start_worker,
    )
    images = Survey(len(source))
    with tqdm(total=len(source), desc="inspecting", unit="img", leave=False) as bar:
        for batch in loader:
            for index, image in enumerate(batch, start=bar.n):
                images.add(index, image)
            bar.update(len(batch))
    return images


def faintness(pixels: Tensor) -> str:
    """Return a sentence if an image is nearly constant or nearly black; empty otherwise.

    Args:
        pixels: (C, H, W) uint8; at most every pixel of a grid of 256 x 256 is looked at.
    """
    height, width = pixels.shape[1:]
    seen = pixels[:, :: max(1, height // _SIDE), :: max(1, width // _SIDE)].flatten(1)
    contrast, largest = float(seen.float().std(1, correction=0).max()), int(seen.max())
    if contrast < CONSTANT:
        return f"nearly constant: standard deviation {contrast:.2f} of 255"
    return f"nearly black: its largest value is {largest} of 255" if largest < DARK else ""


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """Return 64 bits of the image's coarse structure (imagehash's phash: signs of the lowest cosine coefficients).

    Args:
        pixels: (H, W, C) uint8.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] < 3 else pixels[..., :3])
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
