from conmim_lightning.studies.definition import Run
from conmim_lightning.studies.execution import Execution
from conmim_lightning.studies.outlook import describe, listing

ENCODER = Run(("method", "seed0"), "method", ("a=1",), is_encoder=True)
PROBES = Run(("row", "probes", "seed0"), "probes", ("b=2",), encoder=("method", "seed0"))


class Records(Execution):
    """A study whose encoder took an hour."""

    def record(self, run):
        return {"seconds": 3600.0} if run == ENCODER and self.overrides else None


def test_hours_are_those_of_the_definition_until_runs_are_complete(tmp_path):
    runs, hours = [ENCODER, PROBES], {"method": 2.0, "probes": 0.5}
    assert describe(Records(tmp_path), runs, {}) == "2 runs, 0 complete"
    assert "0 complete; the others need about 2.5 h on two slow CPU" in describe(Records(tmp_path), runs, hours)
    assert "about 5.0 h" in describe(Records(tmp_path), runs, hours | {"row/probes": 3.0})
    assert "about 4.5 h" in describe(Records(tmp_path), runs, {"encoder": 4.0, "probes": 0.5})
    here = Records(tmp_path, overrides=["x"])  # twice as fast
    assert describe(here, runs, hours) == "2 runs, 1 complete; the others need about 15 min here, by the complete ones"
    assert describe(here, [ENCODER], hours) == "1 runs, 1 complete"


def test_listing(tmp_path):
    lines = listing(Records(tmp_path, overrides=["x"]), [ENCODER, PROBES]).splitlines()
    assert [line.split() for line in lines] == [
        ["complete", "method/seed0", "a=1"],
        ["to", "do", "row/probes/seed0", "b=2"],
    ]
