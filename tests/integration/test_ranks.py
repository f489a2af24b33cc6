"""Several processes: one folder, and a rank that dies, freezes or fails ends the others with a message."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from conmim_lightning.weights.checkpoint import read_checkpoint

pytestmark = pytest.mark.ddp
TRAIN = ["-m", "conmim_lightning.train"]
TWO = ["experiment=quickstart", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=4"]
QUIET = ["logger=csv", "~callbacks.probe", "~callbacks.report"]


def start(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CONMIM_"))}
    environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"} | (environment or {})
    return subprocess.Popen(
        [sys.executable, *words], cwd=folder, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def children(pid: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return list(map(int, listed.split()))


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("victim", "by", "message"),
    [
        (1, signal.SIGKILL, "rank 1 (process {pid} on "),
        pytest.param(1, signal.SIGSTOP, "has not responded for 5 s", marks=pytest.mark.slow),
        pytest.param(0, signal.SIGSTOP, "rank 0 or its machine has not responded for 5 s", marks=pytest.mark.slow),
        pytest.param(0, signal.SIGKILL, "rank 0 (process {pid} on ", marks=pytest.mark.slow),
    ],
)
def test_a_lost_rank_ends_the_other(tmp_path, tiny, victim, by, message):
    length = ["schedule.epochs=100000", "schedule.warmup_epochs=0", "callbacks.heartbeat.timeout=5"]
    process = start(tmp_path, *TRAIN, *tiny, *TWO, *QUIET, *length, f"paths.run_dir={tmp_path}/run")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    pids = [process.pid, children(process.pid)[0]]
    os.kill(pids[victim], by)
    deadline = time.monotonic() + 60
    try:
        if victim == 0:  # the other one prints to the same output, and ends
            while alive(pids[1]) and time.monotonic() < deadline:
                time.sleep(0.1)
            process.kill()
        output, _ = process.communicate(timeout=60)
        assert not alive(pids[1]), "a frozen rank is ended, too"
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
    assert message.format(pid=pids[victim]) in output
    assert "Traceback" not in output
    if victim == 1:
        assert process.returncode == 1
    read_checkpoint(tmp_path / "run")


def test_an_error_of_one_rank_ends_the_other_with_its_message(tmp_path, tiny):
    (tmp_path / "only_rank_1.py").write_text(
        "from lightning import Callback\n"
        "class Fail(Callback):\n"
        "    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):\n"
        "        if trainer.global_rank == 1 and trainer.global_step == 3:\n"
        "            raise ValueError('a fault of rank 1 only')\n"
    )
    process = start(
        tmp_path, *TRAIN, *tiny, *TWO, *QUIET, "+callbacks.fail._target_=only_rank_1.Fail",
        environment={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: a fault of rank 1 only" in output
    assert "rank 1 failed: ValueError: a fault of rank 1 only" in output
    assert "Traceback" not in output


def test_a_signal_before_the_first_step_ends_all_ranks(tmp_path, tiny):
    (tmp_path / "stop_early.py").write_text(
        "import os, signal, time\nfrom lightning import Callback\n"
        "class Stop(Callback):\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        if trainer.global_rank == 0:\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
    )
    process = start(
        tmp_path, *TRAIN, *tiny, *TWO, *QUIET, "+callbacks.stop._target_=stop_early.Stop",
        environment={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert output.count("error: SIGTERM stopped the command before its first step; there is nothing to continue") == 1


def one_folder(root: Path) -> Path:
    folders = {path.parent for path in root.glob("runs/**/run.yaml")}
    assert len(folders) == 1, folders
    (folder,) = folders
    assert [path.name for path in root.glob("runs/**/*.log")] == ["train.log"], "rank 0 alone writes a log"
    assert len(list(folder.parent.iterdir())) == 1
    return folder


def test_torchrun_has_one_folder(tmp_path, tiny):
    length = ["schedule.epochs=1", "schedule.warmup_epochs=0"]
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", *TRAIN, *tiny, *TWO, *QUIET, *length]
    process = start(tmp_path, *words)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert "deprecated" not in output
    assert output.count("48 images from") == 1
    folder = one_folder(tmp_path)
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] == 6


def test_two_nodes_have_one_folder(tmp_path, tiny):
    """Two processes that believe to be nodes; each has one device."""
    length = ["schedule.epochs=1", "schedule.warmup_epochs=0", "trainer.devices=1", "trainer.num_nodes=2"]
    nodes = [
        start(
            tmp_path, *TRAIN, *tiny, *TWO, *QUIET, *length,
            environment={"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29713", "NODE_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in nodes:
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output
    assert torch.load(one_folder(tmp_path) / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] == 6


def slurm_task(rank: int, count: int, port: int) -> dict[str, str]:
    names = {"JOB_ID": 77, "JOB_NAME": "train", "NTASKS": count, "PROCID": rank, "LOCALID": rank, "NODEID": 0}
    names |= {"NODELIST": "localhost", "JOB_NODELIST": "localhost", "NTASKS_PER_NODE": count, "NNODES": 1}
    environment = {f"SLURM_{name}": str(value) for name, value in names.items()}
    return environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def test_a_slurm_job_saves_is_requeued_and_continues(tmp_path, tiny):
    """Two tasks of a job, as srun starts them; scontrol only writes down what it is asked."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    (tmp_path / "noting.py").write_text(
        "import os\nfrom conmim_lightning.data.synthetic import scene_files\n"
        "def write_scenes(**arguments):\n"
        "    open('prepared', 'a').write(os.environ['SLURM_PROCID'])\n    scene_files.write_scenes(**arguments)\n"
    )
    two = [*tiny, *TWO, *QUIET, "trainer=slurm", "schedule.warmup_epochs=0", "schedule.epochs=60"]
    two.append("data.prepare._target_=noting.write_scenes")
    path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}

    def job(port: int, **more: str) -> list[subprocess.Popen[str]]:
        own = path | more
        return [start(tmp_path, *TRAIN, *two, environment=own | slurm_task(rank, 2, port)) for rank in range(2)]

    tasks = job(29714)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/slurm/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert tasks[0].poll() is None, tasks[0].communicate()[0]
        time.sleep(0.05)
    for task in tasks:  # SLURM signals all tasks
        task.send_signal(signal.SIGUSR1)
    outputs = [task.communicate(timeout=60)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [128 + signal.SIGUSR1] * 2, outputs
    assert (tmp_path / "asked").read_text() == "requeue 77\n", "by rank 0 alone"
    assert "job 77 is requeued" in outputs[0]
    assert set((tmp_path / "prepared").read_text()) == {"0"}, "data is prepared once per node"
    stopped = read_checkpoint(next(tmp_path.glob("runs/slurm/*")))["global_step"]
    assert 0 < stopped < 360
    tasks = job(29715, SLURM_RESTART_COUNT="1")
    outputs = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert "SLURM has requeued job 77: resume=auto" in outputs[0]
    assert f"after step {stopped}" in outputs[0]
    assert read_checkpoint(one_folder(tmp_path))["global_step"] == 360
