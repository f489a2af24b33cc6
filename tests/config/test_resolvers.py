import pytest
from omegaconf import OmegaConf

from conmim_lightning.config.resolvers import (
    divide,
    evaluation_resize,
    last_block,
    precision,
    quarter_blocks,
    register_resolvers,
    segmentation_blocks,
    without_credential,
)


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (256, 292), (383, 437), (384, 384), (512, 512)])
def test_evaluation_sizes_are_the_official_ones(size, resized):
    assert evaluation_resize(size) == resized


def test_an_uneven_division_is_an_error():
    with pytest.raises(ValueError, match="size: 225 is not divisible by 16"):
        divide(225, 16, "size")


def test_a_required_value_says_how_to_give_it():
    register_resolvers()
    cfg = OmegaConf.create({"weights": "${required:'name a file'}"})
    with pytest.raises(Exception, match="missing; name a file"):
        _ = cfg.weights


def test_blocks_are_those_of_the_recipes():
    assert segmentation_blocks(12) == [3, 5, 7, 11]
    assert segmentation_blocks(24) == [7, 11, 15, 23]
    assert segmentation_blocks(4) == [0, 1, 2, 3]
    assert quarter_blocks(12) == [2, 5, 8, 11]
    assert quarter_blocks(24) == [5, 11, 17, 23]
    assert last_block(12) == [11]


def test_the_precision_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    assert precision("auto") == "bf16-mixed"
    assert precision("cpu") == "32-true"


def test_credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert without_credential("SOME_KEY", "example.org")
    (tmp_path / ".netrc").write_text("machine example.org login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert not without_credential("SOME_KEY", "example.org")
    assert without_credential("SOME_KEY", "example.com")
    monkeypatch.setenv("SOME_KEY", "x")
    assert not without_credential("SOME_KEY", "example.com")
