import argparse
import random

import pytest
import torch

from conmim_lightning.weights.checkpoint import is_checkpoint, is_run, is_state, read_checkpoint, read_torch

RUN = {"state_dict": {"a": torch.ones(2)}, "loops": {}}


def test_a_run_stands_for_its_last_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save(RUN, tmp_path / "checkpoints" / "last.ckpt")
    assert torch.equal(read_checkpoint(tmp_path)["state_dict"]["a"], torch.ones(2))


@pytest.mark.parametrize("zip_archive", [True, False])
def test_tensors_values_and_namespaces_are_read(tmp_path, zip_archive):
    content = {"model": {"a": torch.ones(2)}, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zip_archive)
    read = read_torch(tmp_path / "x.pth")
    assert (read["epoch"], read["args"].lr) == (3, 0.1)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    torch.save({"state_dict": Evil(), "loops": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil.ckpt' is not a readable checkpoint"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert "executed" not in capsys.readouterr().out


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.ckpt' does not exist"):
        read_torch(tmp_path / "nowhere.ckpt")
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"cut.ckpt' is not a readable checkpoint"):
        read_torch(tmp_path / "cut.ckpt")
    (tmp_path / "empty.ckpt").touch()
    with pytest.raises(ValueError, match=r"empty.ckpt' is not a readable checkpoint: EOFError"):
        read_torch(tmp_path / "empty.ckpt")
    torch.save(RUN["state_dict"], tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="is not a checkpoint of a training run: it lacks the training state"):
        read_checkpoint(tmp_path / "weights.pth")


def test_kinds_of_content():
    assert is_checkpoint(RUN)
    assert not is_checkpoint(RUN["state_dict"])
    assert is_state(RUN["state_dict"])
    assert not is_state(RUN)
    assert not is_state({})


def test_a_flipped_bit_is_noticed(tmp_path):
    """torch reads such a tensor as if nothing had happened."""
    torch.save(RUN | {"state_dict": {"a": torch.arange(4096.0)}}, tmp_path / "a.ckpt")
    content = bytearray((tmp_path / "a.ckpt").read_bytes())
    position = content.index(torch.arange(100.0, 110.0).numpy().tobytes())
    content[position] ^= 1
    (tmp_path / "a.ckpt").write_bytes(content)
    torch.load(tmp_path / "a.ckpt", weights_only=True)
    with pytest.raises(ValueError, match=r"a.ckpt' is damaged: the content of its entry 'a/data/0' differs"):
        read_checkpoint(tmp_path / "a.ckpt")


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with flipped bits, replaced, removed or inserted bytes, or cut."""
    changed = bytearray(content)
    kind = draw.choice(["flip", "replace", "remove", "insert", "cut"])
    start, length = draw.randrange(len(content)), draw.randint(1, 64)
    if kind == "flip":
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    elif kind == "replace":
        changed[start : start + length] = draw.randbytes(len(changed[start : start + length]))
    elif kind == "remove":
        del changed[start : start + length]
    elif kind == "insert":
        changed[start:start] = draw.randbytes(length)
    else:
        del changed[start:]
    return bytes(changed)


def test_a_thousand_mutated_checkpoints_are_rejected_or_equal(tmp_path):
    """No other error than ValueError, no tensor that differs."""
    state = {f"layer{index}": torch.randn(8, 9) for index in range(6)}
    torch.save(RUN | {"state_dict": state, "run": {"config": {"task": {"depth": 2}}}}, tmp_path / "whole.ckpt")
    content, draw, path = (tmp_path / "whole.ckpt").read_bytes(), random.Random(0), tmp_path / "a.ckpt"
    rejected = 0
    for _ in range(1000):
        path.write_bytes(mutated(content, draw))
        try:
            read = read_checkpoint(path)["state_dict"]
        except ValueError:
            rejected += 1
            continue
        assert read.keys() == state.keys()
        assert all(torch.equal(read[name], state[name]) for name in state)
    assert rejected > 900


def test_runs_are_known_by_their_paths(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert is_run(tmp_path / "run")
    assert is_run(tmp_path / "x.ckpt")
    assert not is_run(tmp_path)
