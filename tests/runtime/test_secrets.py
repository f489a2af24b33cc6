import logging
import sys
from io import StringIO

import pytest
import yaml

from conmim_lightning.runtime.secrets import MASK, MaskedStream, mask, mask_text, masked_keys, masked_output

SECRETS = [
    "data.root=http://user:geheim@host/set",
    "data.root=http://user:ge/geheim@host/set",
    "data.root=http://user:ge@geheim@host/set",
    "see http://geheim@host/a and more",
    "s3://key:geheim@bucket/a",
    "https://host/a.tar?token=geheim",
    "https://host/a.tar?part=1&X-Amz-Signature=geheim&x=1",
    "+logger.wandb.api_key=geheim",
    "hub_token: geheim",
    "{'password': 'geheim zwei'}",
    'secret_key="geheim zwei"',
]


@pytest.mark.parametrize("text", SECRETS)
def test_credentials_are_masked(text):
    assert "geheim" not in mask_text(text)
    assert MASK in mask_text(text)
    assert mask_text(mask_text(text)) == mask_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "global_pool: token",
        "backbone.class_token=true",
        "class_token: true",
        "size mismatch for model.mask_token: copying a param",
        "backbone.use_class_token=true",
        "dist_token=false",
        "signature: (a, b)",
        "api_key: null",
        "num_prefix_tokens=1",
        "http://host/a@b/c.tar",
        "mail me@host",
        "tokens: 3",
    ],
)
def test_other_text_stays(text):
    assert mask_text(text) == text


def test_nested_values():
    config = {"data": {"root": "http://u:p@h/s", "sizes": [1, 2]}, "hub_token": "abc", "list": [{"password": "x"}]}
    masked = mask(config)
    assert masked == {
        "data": {"root": f"http://{MASK}@h/s", "sizes": [1, 2]},
        "hub_token": MASK,
        "list": [{"password": MASK}],
    }
    assert masked_keys(masked) == ["data.root", "hub_token", "list.0.password"]
    assert config["hub_token"] == "abc"


def test_masked_yaml_is_yaml():
    text = mask_text(yaml.safe_dump({"hub_token": "geheim", "root": "http://u:geheim@h/s"}))
    assert yaml.safe_load(text) == {"hub_token": MASK, "root": f"http://{MASK}@h/s"}


def test_streams():
    stream = StringIO()
    print("http://u:geheim@h/s", file=MaskedStream(stream))
    assert stream.getvalue() == f"http://{MASK}@h/s\n"
    assert MaskedStream(stream).isatty() is False


def test_log_records_are_masked_with_their_arguments(caplog):
    before = logging.getLogRecordFactory()
    with masked_output():
        logging.warning("reading %s: 100%%", "http://u:geheim@h/s")
    assert caplog.messages == [f"reading http://{MASK}@h/s: 100%"]
    assert logging.getLogRecordFactory() is before


def test_the_standard_streams_are_masked(capsys):
    with masked_output():
        print("http://u:geheim@h/s")
        print("token=geheim", file=sys.stderr)
    assert tuple(capsys.readouterr()) == (f"http://{MASK}@h/s\n", f"token={MASK}\n")
