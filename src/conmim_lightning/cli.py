"""The console script: ``conmim train experiment=quickstart`` runs ``python -m conmim_lightning.train``."""

import runpy
import sys

from conmim_lightning.config.signatures import allowed

COMMANDS = {
    "train": "pre-train, fine-tune or probe",
    "evaluate": "evaluate a trained model, or predict images",
    "visualize": "draw predictions, attention, similarity, neighbours",
    "report": "write the report of a run, or compare runs",
    "export": "export a model, for timm by default",
    "embed": "write features of images to a file",
    "inspect": "inspect a collection of images",
    "plan": "estimate time, memory and disk of a run",
    "benchmark": "time the training step or the data",
    "study": "run a table of experiments, such as CIFAR-10's",
}
"""Sub-commands: each is a module of this package."""


def main() -> None:
    """Run the sub-command given on the command line."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        lines = "\n".join(f"  {command:<10} {text}" for command, text in COMMANDS.items())
        print(f"usage: conmim <command> [key=value ...]\n\n{lines}\n\nconmim <command> --help lists its configuration.")
        return
    if name not in COMMANDS:
        raise SystemExit(f"error: unknown command {name!r}; {allowed(name, COMMANDS)}")
    del sys.argv[1]
    runpy.run_module(f"conmim_lightning.{name}", run_name="__main__", alter_sys=True)
