"""Execution of a study's runs, each a process of ``train``; what is complete is not repeated."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event, Lock
from typing import Any

from conmim_lightning.cores import available_cores
from conmim_lightning.files import write_text
from conmim_lightning.runtime.provenance import git_state
from conmim_lightning.studies.definition import RECORD, Run

_LOG, _SECONDS = "log.txt", "seconds.txt"
_RESUMES = "resume=auto"
_LAST_LINES = 15
TRAIN = (sys.executable, "-m", "conmim_lightning.train")
_PATIENCE = 120  # seconds that a stopped run has to write its checkpoint


class Execution:
    """Processes of a study.

    Args:
        folder: folder of the study.
        overrides: words for every run, after its own.
        jobs: runs at once; they share the cores.
        command: beginning of the command line of a run.

    Raises:
        ValueError: ``jobs`` is below 1.
    """

    def __init__(
        self, folder: Path, *, overrides: Sequence[str] = (), jobs: int = 1, command: Sequence[str] = TRAIN
    ) -> None:
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        self.folder = folder
        self.overrides = tuple(overrides)
        self.jobs = jobs
        self.command = tuple(command)
        self._processes: set[subprocess.Popen[Any]] = set()
        self._lock, self._stopped = Lock(), Event()

    def record(self, run: Run) -> dict[str, Any] | None:
        """Return the record of a complete run: "words", "command", "seconds", "commit"; None if it is not complete.

        Raises:
            ValueError: a run with other settings is complete in its folder.
        """
        path = self.folder.joinpath(*run.folder, RECORD)
        if not path.is_file():
            return None
        record = json.loads(path.read_text())
        words = self._words(run)
        if set(record["words"]) != set(words):
            before, now = set(record["words"]) - set(words), set(words) - set(record["words"])
            raise ValueError(
                f"{os.path.relpath(path.parent)!r} holds a complete run with other settings: {sorted(before)} instead "
                f"of {sorted(now)}; delete that folder, or name another with output="
            )
        return record

    def run_all(self, runs: Sequence[Run]) -> Iterator[str]:
        """Run what is not complete, and yield a line after each run; an evaluation waits for its encoder.

        Raises:
            ValueError: a run failed; the others are stopped, and their checkpoints continue when this is called again.
        """
        todo = [run for run in runs if self.record(run) is None]
        futures: dict[tuple[str, ...], Future[str]] = {}
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for number, run in enumerate(todo, start=1):  # first in, first out: encoders never wait
                    needed = futures.get(run.encoder) if run.encoder else None
                    futures[run.folder] = pool.submit(self._run, run, needed, f"{number}/{len(todo)}")
                for future in as_completed(futures.values()):
                    yield future.result()
            finally:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self._stop_processes()

    def _run(self, run: Run, needed: Future[str] | None, number: str) -> str:
        if needed is not None:
            needed.result()
        folder = self.folder.joinpath(*run.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if (
            _RESUMES not in run.words
        ):  # such as probes: what a stopped process left cannot be continued, and is no result
            (folder / "run.yaml").unlink(missing_ok=True)
        print(f"{number}  {run.name}: started, log in {os.path.relpath(folder / _LOG)}\n", end="", flush=True)
        started = time.perf_counter()
        status = self._wait([*self.command, *self._arguments(run)], folder / _LOG)
        seconds = _add_seconds(folder / _SECONDS, time.perf_counter() - started)
        if status:
            raise ValueError(
                f"{run.name} ended with status {status}; the end of {os.path.relpath(folder / _LOG)}:\n"
                f"{_tail(folder / _LOG)}\ngive the command again to continue"
            )
        words = list(self._words(run))
        record = {"words": words, "command": " ".join(["train", *words]), "seconds": seconds, "commit": git_state()}
        write_text(folder / RECORD, json.dumps(record, indent=1))
        return f"{number}  {run.name}: complete after {seconds / 60:.1f} min"

    def _wait(self, command: Sequence[str], log: Path) -> int:
        """Run a process in a session of its own, so that a signal for the terminal reaches it once, from here."""
        threads = {} if self.jobs == 1 else {"OMP_NUM_THREADS": str(max(1, available_cores() // self.jobs))}
        own = {name: value for name, value in os.environ.items() if not name.startswith("CONMIM_")}
        with log.open("ab") as file:
            with self._lock:
                if self._stopped.is_set():
                    return 1
                streams = {"stdout": file, "stderr": file, "stdin": subprocess.DEVNULL}
                process = subprocess.Popen(command, **streams, env=own | threads, start_new_session=True)
                self._processes.add(process)
            status = process.wait()
            with self._lock:
                self._processes.discard(process)
        return status

    def _stop_processes(self) -> None:
        """Stop running processes as SIGTERM does: they write a checkpoint first."""
        with self._lock:
            processes = list(self._processes)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()

    def _words(self, run: Run) -> tuple[str, ...]:
        return (*run.words, *self.overrides)

    def _arguments(self, run: Run) -> list[str]:
        folders = [f'paths.run_dir="{self.folder.joinpath(*run.folder)}"']
        weights = f'"{self.folder.joinpath(*run.encoder)}"' if run.encoder else "null"
        return [*self._words(run), *folders, *([] if run.is_encoder else [f"backbone.weights={weights}"])]


def _add_seconds(path: Path, seconds: float) -> float:
    """Add to the seconds that earlier processes of a run took, and return the sum."""
    earlier = float(path.read_text()) if path.is_file() else 0.0
    write_text(path, f"{earlier + seconds:.1f}")
    return earlier + seconds


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").replace("\r", "\n").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])
