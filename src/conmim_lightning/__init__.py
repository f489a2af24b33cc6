"""ConMIM, masked image modeling with denoising contrast, as a PyTorch Lightning collection."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("conmim-lightning")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.0.0"
