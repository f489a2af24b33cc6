"""Kill runs at random moments and compare their weights with those of uninterrupted runs: ``make soak``.

Pre-training, fine-tuning and segmentation, each with 0, 1 and 2 loader processes. The command that is repeated after
each kill is the same line, with ``resume=auto``.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from conftest import tiny_dense, tiny_labelled, tiny_overrides

from conmim_lightning.data.synthetic.scene_files import write_scenes

NO_WARMUP = ["schedule.warmup_epochs=0"]
TASKS = {
    "pre-training": lambda root: ["experiment=quickstart", *tiny_overrides(root), *NO_WARMUP, "schedule.epochs=180"],
    "fine-tuning": lambda root: [
        "experiment=quickstart_finetune", *tiny_labelled(root), *NO_WARMUP, "schedule.epochs=180",
    ],
    "segmentation": lambda root: [
        "experiment=quickstart_segmentation", *tiny_dense(root, "segmentation"), "schedule.warmup_steps=0",
        "schedule.steps=1080", "+trainer.limit_val_batches=1",
    ],
}  # fmt: skip
COMMON = [
    "trainer=cpu",
    "logger=csv",
    "stages=[fit]",
    "~callbacks.report",
    "callbacks.checkpoint.every_n_epochs=null",
    "+callbacks.checkpoint.every_n_train_steps=5",
    "trainer.log_every_n_steps=1",
]
SHORTEST, LONGEST = 3.0, 12.0  # seconds from the start of a process to its end


def command(overrides: list[str], folder: Path) -> list[str]:
    words = [*overrides, *COMMON, f"paths.run_dir={folder}", f"hydra.run.dir={folder}", "resume=auto"]
    words = [word for word in words if word != "~callbacks.report" or "experiment=quickstart" in overrides]
    return [sys.executable, "-m", "conmim_lightning.train", *words]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def logged(folder: Path) -> list[tuple[str, ...]]:
    """Steps and losses of the training rows."""
    with (folder / "metrics" / "metrics.csv").open() as file:
        return [(row["step"], row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def killed_run(words: list[str], cwd: Path, kills: int, draw: random.Random) -> int:
    """Run until the end, killing the process up to ``kills`` times; return the number of kills."""
    done = 0
    while True:
        process = subprocess.Popen(
            words, cwd=cwd, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            _, stderr = process.communicate(timeout=draw.uniform(SHORTEST, LONGEST) if done < kills else 600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            done += 1
            continue
        if process.returncode:
            raise SystemExit(f"a run ended with {process.returncode}:\n{stderr[-3000:]}")
        return done


FAULT = """
import os, signal, torch
from lightning import Callback
class Fault(Callback):
    def __init__(self, kind, rank):
        self.kind, self.rank = kind, rank
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 30 and trainer.global_rank == self.rank:
            print("FAULT", flush=True)
            if self.kind == "with-NaN":
                next(pl_module.model.student.parameters()).data.fill_(torch.nan)
            else:
                os.kill(os.getpid(), {"killed": signal.SIGKILL, "frozen": signal.SIGSTOP}[self.kind])
"""


def lost_ranks(root: Path) -> None:
    """Print, for two ranks of which one is lost, the seconds until the other one ends, and its message."""
    (root / "fault.py").write_text(FAULT)
    overrides = [*TASKS["pre-training"](root / "scenes"), "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    overrides += ["data.batch_size=4", "logger=csv", "~callbacks.probe", "~callbacks.report", "~callbacks.progress"]
    overrides += ["callbacks.heartbeat.timeout=10", "+callbacks.fault._target_=fault.Fault"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    for rank in (1, 0):
        for kind in ("killed", "frozen", "with-NaN"):
            own = [
                f"+callbacks.fault.kind={kind}",
                f"+callbacks.fault.rank={rank}",
                f"paths.run_dir={root}/{kind}{rank}",
            ]
            process = subprocess.Popen(
                [sys.executable, "-m", "conmim_lightning.train", *overrides, *own], cwd=root, env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
            assert process.stdout
            started, message = float("nan"), "no message"
            for line in process.stdout:
                if line.startswith("FAULT"):
                    started = time.monotonic()
                if line.startswith("error: "):
                    message = line.strip()[:200]
                    break
            print(f"rank {rank} {kind}: {time.monotonic() - started:.1f} s, {message}", flush=True)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, started, total = random.Random(options.seed), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_scenes(root / "scenes", train=48, val=24, size=64, seed=3)
        cases = [(task, workers) for task in TASKS for workers in (0, 1, 2)]
        lost_ranks(root)
        while total < options.kills:
            for number, (task, workers) in enumerate(cases):
                overrides = [*TASKS[task](root / "scenes"), f"data.num_workers={workers}"]
                whole, stopped = root / f"{number}-whole", root / f"{number}-{total}"
                if not whole.exists():
                    killed_run(command(overrides, whole), root, 0, draw)
                kills = -(-(options.kills - total) // (len(cases) - number))
                kills = killed_run(command(overrides, stopped), root, kills, draw) if kills > 0 else 0
                total += kills
                if not kills:
                    continue
                one, other = weights(whole), weights(stopped)
                same = one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
                curves = logged(whole) == logged(stopped)
                seconds = time.monotonic() - started
                print(
                    f"{seconds:6.0f} s  {task}, {workers} workers: {kills} kills, weights {same}, curves {curves}",
                    flush=True,
                )
                if not (same and curves):
                    raise SystemExit("a killed run differs from the uninterrupted one")
    print(f"{total} kills, {time.monotonic() - started:.0f} s: all weights and logged losses equal, bit for bit")


if __name__ == "__main__":
    main()
