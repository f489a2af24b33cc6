import pytest

from conmim_lightning.runtime.ranks import global_rank, local_rank

NAMES = (
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, (0, 0)),
        ({"RANK": "3", "LOCAL_RANK": "1"}, (3, 1)),  # torchrun
        ({"NODE_RANK": "0", "LOCAL_RANK": "1"}, (1, 1)),  # launched by Lightning
        ({"NODE_RANK": "2"}, (2, 0)),  # started by a user on the third node: not the first process
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}, (3, 1)),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, (0, 0)),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, (0, 0)),  # in the batch script, without srun
    ],
)
def test_ranks(monkeypatch, environment, ranks):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (global_rank(), local_rank()) == ranks
