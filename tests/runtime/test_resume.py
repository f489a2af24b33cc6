import os

import pytest
import torch

from conmim_lightning.runtime.resume import check_unused, checkpoints, find_resume


def save(run, step, *, age=0):
    folder = run / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step{step:07d}.ckpt"
    torch.save({"state_dict": {"a": torch.arange(1000)}, "loops": {}, "global_step": step}, path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))


@pytest.fixture
def run(tmp_path):
    for step in (6, 12, 18):
        save(tmp_path, step, age=100 - step)
    (tmp_path / "checkpoints" / "last.ckpt").symlink_to("step0000018.ckpt")
    (tmp_path / "checkpoints" / ".step0000024.partial-77.ckpt").touch()  # of a process that was killed while it wrote
    return tmp_path


def test_the_newest_comes_first_and_links_count_once(run):
    assert [path.name for path in checkpoints(run)] == ["step0000018.ckpt", "step0000012.ckpt", "step0000006.ckpt"]


@pytest.mark.parametrize("resume", ["auto", "folder"])
def test_auto_and_a_folder_take_the_newest(run, resume):
    found = find_resume("auto" if resume == "auto" else str(run), str(run))
    assert found.step == 18
    assert found.path.endswith("step0000018.ckpt")


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(run):
    damage(run / "checkpoints" / "step0000018.ckpt")
    with pytest.warns(UserWarning, match=r"step0000018.*the run continues with the one before, '.*step0000012.ckpt'"):
        assert find_resume("auto", str(run)).step == 12


def test_a_link_to_nothing_is_passed_over(run):
    (run / "checkpoints" / "step0000018.ckpt").unlink()
    assert find_resume("auto", str(run)).step == 12


def test_if_all_are_damaged_nothing_starts_afresh(run):
    for path in checkpoints(run):
        damage(path)
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read: .*0018.*0012.*0006"):
        find_resume("auto", str(run))


def test_without_a_checkpoint_auto_starts_afresh_and_a_folder_is_an_error(tmp_path):
    assert find_resume("auto", str(tmp_path)) == (None, None, True)
    assert find_resume(None, str(tmp_path)) == (None, None, False)
    with pytest.raises(ValueError, match="no checkpoint in its folder"):
        find_resume(str(tmp_path), str(tmp_path / "new"))


def test_a_requeued_job_continues_by_itself(run, monkeypatch):
    assert find_resume(None, str(run)).path is None
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert find_resume(None, str(run)).step == 18
    other = save(run.parent / "other", 3)
    assert find_resume(str(other), str(run)).step == 18, "the job began with another run's checkpoint"
    assert find_resume(str(other), str(run.parent / "new")).step == 3


def test_a_requeued_job_without_a_checkpoint_starts_again_in_its_folder(tmp_path, monkeypatch):
    (tmp_path / "run.yaml").touch()
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    found = find_resume(None, str(tmp_path))
    assert found == (None, None, True)
    check_unused(str(tmp_path), found.path, continues=found.auto)


def test_a_folder_holds_one_run(run, tmp_path_factory):
    (run / "run.yaml").touch()
    other = save(tmp_path_factory.mktemp("other"), 3)
    for resume, continues in ((None, False), (str(other), False), (str(other), True)):
        with pytest.raises(ValueError, match="already holds a run; resume=auto continues it"):
            check_unused(str(run), resume, continues=continues)
    check_unused(str(run), str(run / "checkpoints" / "last.ckpt"), continues=False)
    check_unused(str(run), None, continues=True)  # stopped before its first checkpoint
    check_unused(str(other.parents[1]), None, continues=False)
