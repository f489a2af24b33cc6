"""The three laws of CONTRIBUTING.md, and its rules on sizes and names, read from the source."""

import ast
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "conmim_lightning"
COMMANDS = ("train", "evaluate", "visualize", "report", "inspect", "export", "embed", "plan", "benchmark", "study")
EVERYWHERE = {"numpy", "PIL", "tqdm", *sys.stdlib_module_names}

ALLOWED = {
    "commands": {"callbacks", "config", "data", "embedding", "evaluate", "inference", "models", "profiling"}
    | {"loggers", "reporting", "runtime", "studies", "visualization", "weights"}
    | {"files", "signals", "slurm", "hydra", "lightning", "omegaconf", "torch"},
    "cli": {"config"},
    "runtime": {"config", "cores", "files", "signals", "slurm", "weights", "hydra", "lightning", "omegaconf", "torch"},
    "loggers": {"files", "text", "lightning", "wandb", "wandb_workspaces"},
    "files": set(),
    "cores": set(),
    "text": set(),
    "signals": set(),
    "slurm": set(),
    "config": {"hydra", "omegaconf", "pydantic", "pydantic_core", "torch"},
    "profiling": {
        "batches",
        "callbacks",
        "config",
        "data",
        "losses",
        "models",
        "perturbation",
        "rng",
        "files",
        "runtime",
        "tasks",
    }
    | {"hydra", "matplotlib", "psutil", "simplejpeg", "timm", "torch", "torchvision"},
    "callbacks": {
        "batches",
        "files",
        "loggers",
        "text",
        "metrics",
        "optim",
        "signals",
        "slurm",
        "lightning",
        "psutil",
        "matplotlib",
        "torch",
        "torchmetrics",
        "torchvision",
        "yaml",
    },
    "tasks": {"batches", "losses", "metrics", "models", "optim", "perturbation", "probes", "rng", "weights"}
    | {"lightning", "timm", "torch", "torchmetrics"},
    "probes": {"metrics", "models", "optim", "torch"},
    "embedding": {"data", "files", "models", "lightning", "pyarrow", "safetensors", "torch"},
    "studies": {"config", "cores", "files", "runtime", "text", "matplotlib"},
    "reporting": {"files", "jinja2", "plotly", "yaml"},
    "visualization": {"batches", "data", "files", "inference", "models", "runtime", "text", "weights"}
    | {"hydra", "matplotlib", "timm", "torch"},
    "inference": {"batches", "config", "data", "models", "perturbation", "runtime", "weights"}
    | {"hydra", "timm", "torch"},
    "models": {"batches", "weights", "segmentation_models_pytorch", "timm", "torch", "torchvision"},
    "weights": {"files", "safetensors", "scipy", "timm", "torch"}
    | {"onnx", "onnxruntime", "onnxscript", "transformers"},
    "data": {"batches", "cores", "files", "signals", "text", "masking", "perturbation", "rng"}
    | {"psutil", "sklearn", "timm", "torch", "torchvision", "simplejpeg"}
    | {
        "aiohttp",
        "faiss",
        "faster_coco_eval",
        "fsspec",
        "imagehash",
        "pillow_heif",
        "pyarrow",
        "tifffile",
        "webdataset",
        "yaml",
    },
    "losses": {"torch"},
    "masking": {"torch"},
    "perturbation": {"torch"},
    "rng": {"torch"},
    "batches": {"torch"},
    "optim": {"torch"},
    "metrics": {"batches", "torch", "torchmetrics"},
}
FOLDERS = {"data/datamodules": {"lightning"}, "profiling/data": {"cv2", "turbojpeg"}}  # the latter to compare with
"""What a folder may import in addition."""

FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())


def imports(path: Path) -> set[str]:
    """Names at the top level of what a file imports; of our own packages, those below ``conmim_lightning``."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
    return {name.removeprefix("conmim_lightning.").split(".")[0] for name in names}


@each_file
def test_imports(path: Path):
    relative = path.relative_to(SOURCE)
    package = relative.parts[0].removesuffix(".py")
    allowed = ALLOWED["commands" if package in COMMANDS else package] | FOLDERS.get(relative.parent.as_posix(), set())
    assert imports(path) <= allowed | EVERYWHERE | {package}


def test_only_the_logger_configuration_mentions_wandb():
    names = {path.relative_to(SOURCE).as_posix() for path in FILES if "wandb" in imports(path)}
    assert names == {"loggers/wandb.py"}  # and wandb_workspaces for the dashboard
    conf = SOURCE.parents[1] / "conf"
    others = {path for path in conf.rglob("*.yaml") if path.parent.name != "wandb"}  # sweeps of wandb
    named = {path.name for path in others if "wandb" in path.read_text()}
    assert named <= {"wandb.yaml", "train.yaml", "export.yaml", "groups.yaml"}


@each_file
def test_sizes(path: Path):
    """Files have at most 250 lines, bodies at most 30, without docstring and signature."""
    text = path.read_text()
    assert text.count("\n") <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                assert (body[-1].end_lineno or 0) - body[0].lineno < 30, f"{node.name} is long"


def test_the_base_of_the_supervised_tasks_stays_small():
    assert (SOURCE / "tasks" / "supervised.py").read_text().count("\n") <= 100


def test_no_catch_all_names():
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "common", "misc", "tools")]


def test_no_names_of_the_old_dialect():
    """Words that once were names here and mean nothing to others; see "Language" in CONTRIBUTING.md."""
    words = {
        "told",
        "found",
        "kept",
        "way",
        "ways",
        "judge",
        "doors",
        "mine",
        "theirs",
        "part",
        "parts",
        "share",
        "shares",
    }
    faults = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            name = next(filter(None, (getattr(node, key, None) for key in ("id", "arg", "name", "attr"))), None)
            if isinstance(name, str) and name != "found_inf" and words & set(name.lower().strip("_").split("_")):
                faults.append(f"{path.relative_to(SOURCE)}: {name}")
    assert not faults


@each_file
def test_every_module_has_its_tests(path: Path):
    relative = path.relative_to(SOURCE)
    assert (TESTS / relative.parent / f"test_{relative.name}").is_file()


def test_every_test_has_its_module():
    """Files of tests mirror the modules, except those of several modules, in ``tests/integration``."""
    others = {"test_architecture.py", "test_extending.py", "test_python_api.py"}
    for path in TESTS.rglob("test_*.py"):
        relative = path.relative_to(TESTS)
        if relative.parts[0] != "integration" and relative.name not in others:
            assert (SOURCE / relative.parent / relative.name.removeprefix("test_")).is_file(), relative
