"""JPEG decoders to compare: those that are installed."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import torch
from PIL import Image

Decode = Callable[[bytes], object]


def decoders() -> dict[str, Decode]:
    """Return, by name, functions that convert a JPEG's bytes to RGB pixels."""
    available: dict[str, Decode] = {"Pillow": _pillow}
    for module, name, make in (
        ("simplejpeg", "simplejpeg", _simplejpeg),
        ("cv2", "OpenCV", _opencv),
        ("turbojpeg", "PyTurboJPEG", _turbojpeg),
        ("torchvision", "torchvision.io", _torchvision),
    ):
        if find_spec(module) is not None and (decode := make()) is not None:
            available[name] = decode
    return available


def _pillow(content: bytes) -> object:
    return np.asarray(Image.open(BytesIO(content)))


def _simplejpeg() -> Decode:
    import simplejpeg

    return lambda content: simplejpeg.decode_jpeg(content, "RGB")


def _opencv() -> Decode:
    import cv2  # pyright: ignore[reportMissingImports]

    cv2.setNumThreads(1)
    return lambda content: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def _turbojpeg() -> Decode | None:
    import turbojpeg  # pyright: ignore[reportMissingImports]

    try:
        decoder = turbojpeg.TurboJPEG()
    except (RuntimeError, OSError):  # the package does not include the library
        return None
    return lambda content: decoder.decode(content, pixel_format=turbojpeg.TJPF_RGB)


def _torchvision() -> Decode:
    from torchvision.io import decode_jpeg

    warnings.filterwarnings("ignore", message=".*decoding and encoding capabilities of TorchVision.*")
    return lambda content: decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8))
