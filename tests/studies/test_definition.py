import pytest

from conmim_lightning.studies.definition import Study

EVALUATIONS = {"probes": ["experiment=frozen"], "tuned": ["experiment=tune", "data.subset_seed={seed}"]}
COLUMNS = {"k-NN": {"run": "probes", "metric": "test/knn"}, "start": {"run": "encoder", "metric": "val/knn"}}


def study(**changes):
    arguments = {
        "name": "t",
        "title": "T",
        "common": ["logger=none"],
        "encoders": {"method": ["experiment=a"]},
        "evaluations": EVALUATIONS,
        "rows": {"ours": {"encoder": "method"}, "pixels": {"evaluations": ["probes"], "overrides": ["x=1"]}},
        "columns": COLUMNS,
        "seeds": [3, 4],
    }
    return Study(**(arguments | changes))


def test_encoders_come_before_their_evaluations_seed_by_seed():
    runs = study().runs()
    assert [run.name for run in runs] == [
        "method/seed3",
        "ours/probes/seed3",
        "ours/tuned/seed3",
        "pixels/probes/seed3",
        "method/seed4",
        "ours/probes/seed4",
        "ours/tuned/seed4",
        "pixels/probes/seed4",
    ]
    encoder, probes, tuned, pixels = runs[:4]
    assert encoder.is_encoder
    assert encoder.words == ("logger=none", "experiment=a", "seed=3")
    assert probes.encoder == ("method", "seed3")
    assert tuned.words == ("logger=none", "experiment=tune", "data.subset_seed=3", "seed=3")
    assert pixels.words == ("logger=none", "experiment=frozen", "x=1", "seed=3")
    assert pixels.encoder is None


def test_common_overrides_come_first():
    runs = study(encoder_common=["a=1"], evaluation_common=["b=2"]).runs()
    assert runs[0].words == ("logger=none", "a=1", "experiment=a", "seed=3")
    assert runs[1].words == ("logger=none", "b=2", "experiment=frozen", "seed=3")


def test_some_rows_and_encoders():
    assert [run.name for run in study(seeds=[0]).runs(["method", "pixels"])] == ["method/seed0", "pixels/probes/seed0"]
    with pytest.raises(ValueError, match="only: 'pixel' is unknown; did you mean pixels"):
        study().runs(["pixel"])


def test_seeds_without_an_encoder_take_the_first():
    runs = {run.name: run for run in study(encoder_seeds=[3]).runs()}
    assert "method/seed4" not in runs
    assert runs["ours/probes/seed4"].encoder == ("method", "seed3")


def test_rows_may_have_fewer_seeds():
    restricted = study(rows={"ours": {"encoder": "method"}, "long": {"seeds": [4]}})
    assert [run.name for run in restricted.runs() if run.name.startswith("long")] == [
        "long/probes/seed4",
        "long/tuned/seed4",
    ]
    assert restricted.run_of("long", "k-NN", 3) is None


def test_without_rows_each_encoder_is_one():
    names = [run.name for run in study(rows=None, seeds=[0]).runs()]
    assert names == ["method/seed0", "method/probes/seed0", "method/tuned/seed0"]


def test_the_run_of_a_cell():
    assert study().run_of("ours", "k-NN", 4) == ("ours", "probes", "seed4")
    assert study().run_of("ours", "start", 4) == ("method", "seed4")
    assert study(encoder_seeds=[3]).run_of("ours", "start", 4) is None
    assert study().run_of("pixels", "start", 4) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "at least one seed"),
        ({"encoder_seeds": [4]}, "the same first one"),
        ({"rows": {"a/b": {}}}, "no name of a folder"),
        ({"rows": {"a": {"encoder": "methot"}}}, "did you mean method"),
        ({"rows": {"a": {"evaluations": ["x"]}}}, "study.rows.a.evaluations: 'x' is unknown"),
        ({"rows": {"a": {"encodr": "method"}}}, "did you mean encoder"),
        ({"columns": {"c": {"run": "probes"}}}, "study.columns.c needs metric"),
        ({"columns": {"c": {"run": "probe", "metric": "m"}}}, "did you mean probes"),
        ({"baseline": "their"}, "study.baseline: 'their' is unknown"),
        ({"hours": {"prob": 1}}, "is no encoder, no evaluation and no row/evaluation"),
    ],
)
def test_mistakes_name_the_value_and_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        study(**changes)
