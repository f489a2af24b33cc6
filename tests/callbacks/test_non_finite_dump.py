import pytest
import torch
from pretraining import fit, make_batches, make_task

from conmim_lightning.callbacks.non_finite_dump import NonFiniteDump
from conmim_lightning.optim.non_finite import NonFiniteError


def test_the_batch_of_the_bad_step_is_written(tmp_path):
    with pytest.raises(NonFiniteError), pytest.warns(UserWarning, match="wrote"):
        fit(make_task(), make_batches(bad=2), NonFiniteDump(str(tmp_path)))
    content = torch.load(tmp_path / "non_finite_step2_rank0.pt", weights_only=True)
    assert [batch["index"].tolist() for batch in content["batches"]] == [[8, 9, 10, 11]]
    assert "samples [8, 9, 10, 11]" in content["message"]
    assert all(value.isfinite().all() for name, value in content["model"].items() if "running" not in name)


def test_other_errors_write_nothing(tmp_path):
    callback = NonFiniteDump(str(tmp_path / "dump"))
    callback.on_exception(None, None, KeyboardInterrupt())
    assert not (tmp_path / "dump").exists()
