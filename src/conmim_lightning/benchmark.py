"""Time the training step: ``python -m conmim_lightning.benchmark experiment=vit_s_pretrain benchmark.batch_size=8``.

All of a run: ``benchmark.stages=[step,data,run,sizes] data.root=/my/images``. What happens to images before training:
``benchmark=data``, and how that grows with the collection: ``benchmark=growth``.

One device, medians. Of the step, made batches are timed through the task's own model, loss and optimizer, outside the
Trainer; beside it the official step, written out plainly (``speed/plain.py``). Each way runs in a process of its own;
on a CPU they take their steps in turn, so that the hour of a shared machine weighs on all alike.
"""

import json
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.timed import (
    attention_alone,
    data_alone,
    end_to_end,
    for_pretraining,
    last_of_ours,
    made_batch,
    made_runner,
    made_task,
    names_images,
)

STAGES = ("step", "attention", "data", "run", "sizes")


def measure(
    plain: dict[str, Any], other: dict[str, Any] | None = None, keep: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Time every stage that the configuration names.

    Args:
        plain: checked configuration.
        other: another one, whose ways that are not plain take their steps in turn with ours.
        keep: is given what was found so far after each stage, so that nothing is lost if a later one fails.

    Returns:
        device, torch, batch_size, operations (a step and image), ceilings (operations a second by precision), ways (for
        each name seconds of every step, of the perturbation and its parts, and the peak of memory in bytes), and by the
        stages asked for data, run and sizes; under "other" what was found of the other configuration.
    """
    import torch

    from conmim_lightning.speed.device import product_rate, training_device
    from conmim_lightning.speed.ours import DTYPES
    from conmim_lightning.speed.ways import pairs

    wanted = plain["benchmark"]
    device = training_device(plain["trainer"]["accelerator"])
    found = _described(plain, device)
    precisions = {*wanted["precisions"], *(precision for _, precision in pairs(wanted))}
    dtypes = {precision: DTYPES[precision] or torch.float32 for precision in DTYPES if precision in precisions}
    found["ceilings"] = {precision: product_rate(device, dtype) for precision, dtype in dtypes.items()}
    stages = {
        "step": lambda: _measure_ways(found, plain, other, device, keep),
        "attention": lambda: found.update(attention=attention_alone(plain, device)),
        "data": lambda: found.update(data=data_alone(plain)),
        "run": lambda: found.update(run=end_to_end(plain)),
        "sizes": lambda: found.update(sizes=_by_size(plain, device)),
    }
    for stage in STAGES:
        if stage in wanted["stages"]:
            stages[stage]()
            keep(found)
    for precision, dtype in dtypes.items():  # again, since another's work may have stood in the way
        found["ceilings"][precision] = max(found["ceilings"][precision], product_rate(device, dtype))
    return found


def _described(plain: dict[str, Any], device: Any) -> dict[str, Any]:
    """What is to be measured, and where."""
    import torch

    from conmim_lightning.speed.device import told_device
    from conmim_lightning.speed.operations import counted_operations
    from conmim_lightning.speed.ways import departures

    return {
        "device": told_device(device),
        "torch": torch.__version__,
        "batch_size": plain["benchmark"]["batch_size"],
        "operations": sum(counted_operations(made_task(plain), made_batch(plain, 2)).values()) / 2,
        "departures": departures(plain["task"]),
        "ways": {},
    }


def _measure_ways(
    found: dict[str, Any],
    plain: dict[str, Any],
    other: dict[str, Any] | None,
    device: Any,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """Put the ways of one configuration, or of two, into what was found; on a GPU the others go on if one fails."""
    from conmim_lightning.speed.turns import in_turn

    wanted = plain["benchmark"]
    makers = _makers(plain)
    if other is not None:
        makers |= {f"other {name}": make for name, make in _makers(other).items() if not name.startswith("plain")}
    together = [makers] if device.type == "cpu" else [{name: make} for name, make in makers.items()]
    theirs: dict[str, Any] = {}
    if other is not None:
        found["other"] = {"batch_size": other["benchmark"]["batch_size"], "told": wanted["against"], "ways": theirs}
    for group in together:  # a GPU's memory is for one at a time
        try:
            ways = in_turn(group, warmup=wanted["warmup"], steps=wanted["steps"])
        except RuntimeError as error:
            if device.type == "cpu":
                raise
            found.setdefault("errors", {})[next(iter(group))] = str(error).splitlines()[0]
            continue
        for name, way in ways.items():
            (theirs if name.startswith("other ") else found["ways"])[name.removeprefix("other ")] = way
        keep(found)


def _makers(plain: dict[str, Any]) -> dict[str, Any]:
    """For each way and precision, what makes its ``Remote``."""
    from conmim_lightning.speed.remote import Remote
    from conmim_lightning.speed.ways import pairs

    wanted = plain["benchmark"]
    return {
        f"{way} {precision}": partial(
            Remote, f"{way} {precision}", made_runner, plain, way, precision, wanted["batch_size"]
        )
        for way, precision in pairs(wanted)
    }


def _by_size(plain: dict[str, Any], device: Any) -> dict[str, Any]:
    """Rates and memory of the last way by batch size, for each precision."""
    from conmim_lightning.speed.device import memory_limit
    from conmim_lightning.speed.remote import Remote
    from conmim_lightning.speed.sizes import sizes

    wanted = plain["benchmark"]
    limit, way = memory_limit(device, wanted["memory"]), last_of_ours(wanted)

    def make(precision: str, size: int) -> Remote:
        return Remote(f"{way} {precision}, batch {size}", made_runner, plain, way, precision, size)

    return {
        precision: sizes(
            partial(make, precision), wanted["batch_size"], limit, warmup=wanted["warmup"], steps=wanted["steps"]
        )
        for precision in wanted["precisions"]
    }


def _saved(path: str) -> dict[str, Any]:
    """What an earlier run found; ValueError for another file."""
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"benchmark.against={path!r} cannot be read: {error}") from error
    if not isinstance(found, dict) or "ways" not in found:
        raise ValueError(f"benchmark.against={path!r} is no benchmark.json of the step")
    return found


def _other(against: str | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What an earlier run found, or another configuration: this one with what ``against`` has otherwise."""
    if not against or "=" not in against:
        return (_saved(against), None) if against else (None, None)
    words = [word for word in HydraConfig.get().overrides.task if not word.startswith("benchmark.against")]
    return None, check(hydra.compose("benchmark", [*words, *against.split()]))


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

    wanted = plain["benchmark"]["images"]
    if not names_images(plain):
        wanted["data"] |= {"root": "."}  # which must exist; the images are made elsewhere
    benchmark = instantiate(wanted)
    found = benchmark.run()
    print(f"{platform.processor() or platform.machine()}, one thread a process")
    print(benchmark.told(found), _write(found, plain), sep="\n")


def time_steps(plain: dict[str, Any]) -> None:
    """Time the training in every way and precision that the configuration names."""
    from conmim_lightning.speed.device import training_device
    from conmim_lightning.speed.plot import draw
    from conmim_lightning.speed.told import against, told
    from conmim_lightning.speed.ways import pairs

    for_pretraining(plain, "benchmark")
    wanted = plain["benchmark"]
    wanted["precisions"] = list(dict.fromkeys(wanted["precisions"]))
    stages, ways = wanted["stages"], pairs(wanted)
    if not stages or set(stages) - set(STAGES) or not ways:
        raise ValueError(f"benchmark needs ways, precisions, and stages of {', '.join(STAGES)}, got {stages}")
    on_cpu = training_device(plain["trainer"]["accelerator"]).type == "cpu"
    if on_cpu and any(precision == "16-mixed" for _, precision in ways):
        raise ValueError(
            "benchmark.precisions and ways may have 16-mixed on a GPU only: CPUs take minutes a step in it"
        )
    saved, other = _other(wanted["against"])
    found = measure(plain, other, lambda found: print("so far:", _write(found, plain)))
    path = _write(found, plain)
    print(told(found))
    if to := saved or found.get("other"):
        print(against(found, to))
    draw(found, path.with_suffix(".png"))
    print(path, path.with_suffix(".png"), sep="\n")
    if failed := found.get("errors"):
        raise ValueError(f"{', '.join(failed)} could not be timed, see above; the rest was")


def _write(found: dict[str, Any], plain: dict[str, Any]) -> Path:
    path = Path(plain["paths"]["run_dir"], "benchmark.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
    return Path(os.path.relpath(path))


if __name__ == "__main__":
    register_resolvers()
    with told_plainly():
        main()
