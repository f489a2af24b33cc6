"""The three laws of CONTRIBUTING.md, read from the source."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "conmim_lightning"
DOORS = ("train", "benchmark", "inspect", "export", "evaluate", "visualize", "sweep_table", "timed", "plan")
EVERYWHERE = {"__future__", "numpy", "PIL", "tqdm"}

ALLOWED = {
    "doors": {
        "train",
        "evaluate",
        "weights",
        "tqdm",
        "config",
        "resolvers",
        "messages",
        "record",
        "randomness",
        "allocator",
        "speed",
        "timed",
        "batches",
        "callbacks",
        "hydra",
        "omegaconf",
        "lightning",
        "torch",
    },
    "config": {"signatures", "omegaconf"},
    "signatures": set(),
    "resolvers": {"omegaconf", "torch"},
    "messages": {"hydra"},
    "allocator": set(),
    "speed": {"batches", "losses", "models", "matplotlib", "torch", "timm"},
    "record": set(),
    "callbacks": {"metrics", "batches", "optim", "lightning", "torch", "torchmetrics", "matplotlib", "yaml"},
    "tasks": {
        "models",
        "losses",
        "metrics",
        "probes",
        "optim",
        "batches",
        "randomness",
        "weights",
        "lightning",
        "torch",
        "torchmetrics",
        "timm",
    },
    "probes": {"metrics", "models", "optim", "torch"},
    "models": {"weights", "batches", "torch", "timm", "torchvision", "segmentation_models_pytorch"},
    "weights": {"torch", "timm", "safetensors", "scipy"},
    "data": {
        "masking",
        "perturbation",
        "randomness",
        "batches",
        "torch",
        "torchvision",
        "timm",
        "sklearn",
        "webdataset",
        "fsspec",
        "aiohttp",
        "pyarrow",
        "simplejpeg",
        "imagehash",
        "faiss",
        "faster_coco_eval",
    },
    "losses": {"torch"},
    "masking": {"torch"},
    "perturbation": {"torch"},
    "randomness": {"torch"},
    "batches": {"torch"},
    "optim": {"torch", "timm"},
    "metrics": {"torch", "torchmetrics"},
}


def part_of(path: Path) -> str:
    top = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "doors" if top in DOORS else top


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports; of our own packages the name below ``conmim_lightning``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        for name in names:
            ours = name.removeprefix("conmim_lightning.")
            found.add(ours.split(".")[0] if ours != name else name.split(".")[0])
    return found


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def is_standard(name: str) -> bool:
    import sys

    return name in sys.stdlib_module_names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports(path: Path):
    part = part_of(path)
    allowed = ALLOWED[part] | EVERYWHERE | {part}
    if path.parent.name == "modules":
        allowed = allowed | {"lightning"}
    if path.parent.name == "benchmarks":
        allowed = allowed | {"cv2", "turbojpeg"}  # to compare with, where they are installed
    assert {name for name in imports(path) if not is_standard(name)} <= allowed


def test_only_the_logger_config_knows_wandb():
    names = {path.relative_to(SOURCE).as_posix() for path in FILES if "wandb" in imports(path)}
    assert names <= {"callbacks/online_probe.py"}
    conf = SOURCE / "conf"
    assert {path.name for path in conf.rglob("*.yaml") if "wandb" in path.read_text()} <= {"wandb.yaml", "train.yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_sizes(path: Path):
    """Files of at most 250 lines, bodies of at most 30 (without docstring and signature)."""
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                assert (body[-1].end_lineno or 0) - body[0].lineno < 32, f"{node.name} is long"


def test_no_catch_all_names():
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "common")]
