import subprocess
import sys

from conmim_lightning.loggers.dashboard import CHARTS, PICTURES

CODE = """
import sys
from conmim_lightning.loggers.dashboard import workspace
made = workspace("me", "mine")
print(made.entity, made.project)
for section in made.sections:
    for panel in section.panels:
        print(section.name, getattr(panel, "x", ""), *(getattr(panel, "y", None) or panel.media_keys), sep="|")
"""


def test_every_chart_is_on_the_dashboard():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, check=True)
    first, *lines = done.stdout.splitlines()
    assert first == "me mine"
    shown = {line.split("|", 2)[2] for line in lines}
    assert shown == {"|".join(metrics) for charts in CHARTS.values() for metrics in charts} | set(PICTURES)
    assert all("trainer/global_step" in line for line in lines if not line.startswith("Pictures"))


def test_metrics_of_the_charts_are_logged(finished_run):
    """Names on the dashboard that a pre-training run logs."""
    trainer, _ = finished_run
    known = set(trainer.callback_metrics)
    own = [name for section in ("Pretext task", "Collapse") for chart in CHARTS[section] for name in chart]
    assert set(own) <= known
