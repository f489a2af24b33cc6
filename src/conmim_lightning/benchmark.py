"""Time the training step: ``python -m conmim_lightning.benchmark experiment=vit_s_pretrain benchmark.batch_size=8``.

Or what happens to images before it: ``python -m conmim_lightning.benchmark benchmark=data``, and how that grows with
the collection: ``benchmark=growth``.

Made batches, one device, medians. What is timed is the task's own model, loss and optimizer, outside the Trainer;
beside it the official step, written out plainly (``speed/plain.py``). Each way runs in a process of its own; on a CPU
they take their steps in turn, so that the hour of a shared machine weighs on all alike.
"""

import json
import os
import platform
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
WAYS = ("plain", "eager", "compiled")


class Runner:
    """One way to run the step, here on a device, with what it took.

    Args:
        plain: checked configuration.
        way: of ``WAYS``.
        precision: of ``PRECISIONS``.
    """

    def __init__(self, plain: dict[str, Any], way: str, precision: str) -> None:
        import torch
        from hydra.utils import instantiate

        from conmim_lightning.allocator import keep_freed_memory
        from conmim_lightning.speed.device import forget_peak
        from conmim_lightning.speed.ours import OurStep
        from conmim_lightning.speed.plain import PlainStep

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if way != "plain" and self.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(plain["seed"])
        forget_peak(self.device)
        wanted = plain["task"]
        if way == "plain":  # the same groups and rates, but from parameter to parameter
            wanted = wanted | {"optimizer": wanted["optimizer"] | {"fused": False, "foreach": False}}
        task = instantiate(wanted).to(self.device)
        batch_size, clip = plain["benchmark"]["batch_size"], plain["schedule"]["clip_norm"]
        self.perturbation = task.perturbation
        self.crop, self.rows, self.mask = (part.to(self.device) for part in _made_batch(plain, batch_size))
        if way == "plain":
            optimizer = task.make_optimizer(batch_size)
            self.step: Any = PlainStep(
                task.model, optimizer, temperature=plain["task"]["temperature"], clip_norm=clip, precision=precision
            )
        else:
            self.step = OurStep(
                task, batch_size=batch_size, clip_norm=clip, precision=precision, compiled=way == "compiled"
            )
        self.views = self.perturbation(self.crop, self.rows)

    def steps(self, count: int) -> dict[str, list[float]]:
        """Seconds of each of some steps, and of the perturbation that stands before each."""
        from conmim_lightning.speed.device import seconds

        found: dict[str, list[float]] = {"perturbation": [], "step": []}
        for _ in range(count):
            found["perturbation"].append(seconds(lambda: self.perturbation(self.crop, self.rows), self.device))
            found["step"].append(seconds(lambda: self.step(self.views, self.mask, 0.996), self.device))
        return found

    def parts(self, count: int) -> dict[str, float]:
        """Median seconds of each part of a step; waiting for the device after each part makes the sum larger."""
        from conmim_lightning.speed.ours import PARTS
        from conmim_lightning.speed.split import split

        return split(lambda mark: self.step(self.views, self.mask, 0.996, mark), PARTS, self.device, count)

    def peak(self) -> int:
        """Bytes, see ``speed.device.peak_bytes``."""
        from conmim_lightning.speed.device import peak_bytes

        return peak_bytes(self.device)


def _runner(plain: dict[str, Any], way: str, precision: str) -> Runner:
    """Made in a process of its own."""
    quiet_libraries()
    register_resolvers()
    return Runner(plain, way, precision)


def measure(plain: dict[str, Any]) -> dict[str, Any]:
    """Time every way in every precision that the configuration names.

    Returns:
        device, torch, batch_size, operations (a step and image), ceilings (operations a second by precision) and ways:
        for each name seconds of every step, of the perturbation and its parts, and the peak of memory in bytes.
    """
    import torch

    from conmim_lightning.speed.device import product_rate
    from conmim_lightning.speed.ours import DTYPES

    wanted = plain["benchmark"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU"
    found: dict[str, Any] = {
        "device": f"{name}, {torch.get_num_threads()} threads" if device.type == "cpu" else name,
        "torch": torch.__version__,
        "batch_size": wanted["batch_size"],
        "operations": _operations(plain),
    }
    rates = {p: [product_rate(device, DTYPES[p] or torch.float32)] for p in wanted["precisions"]}
    names = [(way, precision) for precision in wanted["precisions"] for way in wanted["ways"]]
    together = [names] if device.type == "cpu" else [[one] for one in names]  # a GPU's memory is for one at a time
    found["ways"] = {name: told for group in together for name, told in _in_turn(plain, group).items()}
    for precision, rate in rates.items():  # again, since another's work may have stood in the way
        rate.append(product_rate(device, DTYPES[precision] or torch.float32))
    found["ceilings"] = {precision: max(rate) for precision, rate in rates.items()}
    return found


def _in_turn(plain: dict[str, Any], names: list[tuple[str, str]]) -> dict[str, Any]:
    """Runners of some ways take their steps one after the other, a step a turn."""
    from conmim_lightning.speed.remote import Remote

    wanted = plain["benchmark"]
    runners = [Remote(" ".join(name), _runner, plain, *name) for name in names]
    for runner in runners:
        runner.ask("steps", wanted["warmup"])
    turns = [[runner.ask("steps", 1) for runner in runners] for _ in range(wanted["steps"])]
    found = {}
    for place, runner in enumerate(runners):
        of_this = {part: [turn[place][part][0] for turn in turns] for part in ("step", "perturbation")}
        found[runner.name] = {**of_this, "peak_bytes": runner.ask("peak")}
        if names[place][0] != "plain":
            found[runner.name]["parts"] = runner.ask("parts", min(wanted["steps"], 5))
        runner.end()
    return found


def _made_batch(plain: dict[str, Any], batch_size: int) -> tuple[Any, Any, Any]:
    """Random pixels, and rows and masks as the configuration draws them."""
    import torch
    from hydra.utils import instantiate

    from conmim_lightning.randomness import generator

    masking, draw = instantiate(plain["masking"]), instantiate(plain["perturbation"])
    size, channels = plain["backbone"]["img_size"], plain["backbone"]["in_chans"]
    random = generator(plain["seed"], 0, 0)
    crop = torch.randint(0, 256, (batch_size, channels, size, size), dtype=torch.uint8, generator=random)
    rows = torch.stack([draw(random) for _ in range(batch_size)])
    return crop, rows, torch.stack([masking(random) for _ in range(batch_size)])


def _operations(plain: dict[str, Any]) -> float:
    """Operations of a step, an image."""
    from hydra.utils import instantiate

    from conmim_lightning.speed.operations import step_operations

    task = instantiate(plain["task"])
    crop, rows, mask = _made_batch(plain, 2)
    return sum(step_operations(task, task.perturbation(crop, rows)[0], mask).values()) / 2


def _saved(path: str) -> dict[str, Any]:
    """What an earlier run found; ValueError for another file."""
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"benchmark.against={path!r} cannot be read: {error}") from error
    if not isinstance(found, dict) or "ways" not in found:
        raise ValueError(f"benchmark.against={path!r} is no benchmark.json of the step")
    return found


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="benchmark")
def main(cfg: DictConfig) -> None:
    """Time what the configuration names and print a table."""
    plain = check(cfg)
    quiet_libraries()
    if "images" in plain["benchmark"]:
        time_images(plain)
    else:
        time_steps(plain)


def time_images(plain: dict[str, Any]) -> None:
    """Time decoders, sources and loaders."""
    from hydra.utils import instantiate

    benchmark = instantiate(plain["benchmark"]["images"])
    found = benchmark.run()
    print(f"{platform.processor() or platform.machine()}, one thread a process")
    print(benchmark.told(found))
    path = Path(plain["paths"]["run_dir"], "benchmark.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
    print(os.path.relpath(path))


def time_steps(plain: dict[str, Any]) -> None:
    """Time the training step in every way and precision that the configuration names."""
    from conmim_lightning.speed.told import against, told

    for key, known in (("precisions", PRECISIONS), ("ways", WAYS)):
        given = plain["benchmark"][key]
        if not given or set(given) - set(known):
            raise ValueError(f"benchmark.{key} must be of {', '.join(known)}, got {given}")
    saved = plain["benchmark"]["against"]
    earlier = _saved(saved) if saved else None
    found = measure(plain)
    print(told(found))
    if earlier:
        print(against(found, earlier))
    path = Path(plain["paths"]["run_dir"], "benchmark.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
    print(os.path.relpath(path))


if __name__ == "__main__":
    register_resolvers()
    with told_plainly():
        main()
