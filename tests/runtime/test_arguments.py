import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from conmim_lightning.runtime.arguments import expand_arguments, quoted, quoting_advice


def parsed(word: str):
    return OverridesParser.create().parse_override(word)


def test_home_folders_and_variables(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SET", "/big/set")
    monkeypatch.delenv("UNSET", raising=False)
    words = ["data.root=~/x", "+a=~", "b=$SET/y", "c=$SET", "d=$UNSET/z", "e=x~/y", "f=${SET}", "g=1$SET", "-m", "~key"]
    assert expand_arguments(words) == [
        *("data.root=/home/me/x", "+a=/home/me", "b=/big/set/y", "c=/big/set", "d=$UNSET/z", "e=x~/y"),
        *("f=${SET}", "g=1$SET", "-m", "~key"),
    ]


def test_home_folders_and_variables_in_lists(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SET", "/set")
    words = ["a=[~/x,$SET/y, ~]", "b={train: ~/a.tsv, val: $SET}", "c=~/a,~/b", "d=['~/x',\"$SET\",~/z]", "e='~/x'"]
    assert expand_arguments(words) == [
        *("a=[/home/me/x,/set/y, /home/me]", "b={train: /home/me/a.tsv, val: /set}", "c=/home/me/a,/home/me/b"),
        *("d=['~/x',\"$SET\",/home/me/z]", "e='~/x'"),
    ]


@pytest.mark.parametrize("value", ["images/{split}2017", "{split}", "a/{split}/b_{split}.json"])
def test_the_split_in_a_path_needs_no_quotes(value):
    (word,) = expand_arguments([f"data.source.images={value}"])
    assert parsed(word).value() == value
    assert expand_arguments([word]) == [word], "once is enough"


@pytest.mark.parametrize("word", ["a='images/{split}'", 'a="{split}"', "a={split: 1}", "a=[x,{b: 1}]"])
def test_quoted_values_and_dictionaries_stay(word):
    assert expand_arguments([word]) == [word]


VALUES = ["/data/图片", "/my images", "/a=b", "/a,b", "/a{b", "it's", 'a "b"', "a(b", "[x", "end\\", "~x y", "*/@!"]


@pytest.mark.parametrize("value", VALUES)
def test_a_quoted_value_is_read_as_it_was_meant(value):
    (word,) = shlex.split(quoted("data.root", value))
    assert parsed(word).value() == value


@pytest.mark.parametrize("value", ["/data/图片", "/a=b", "/a{b", "[x"])
def test_the_advice_shows_the_argument(value):
    with pytest.raises(HydraException) as caught:
        OverridesParser.create().parse_overrides([f"data.root={value}"])
    advice = quoting_advice(caught.value)
    assert advice.startswith(f"\nto use the value as text, write {quoted('data.root', value)}")
    assert advice.endswith(""" such as 'data.root=["a text", "another"]'""") == value.startswith("[")


def test_half_of_a_value_with_a_space():
    with pytest.raises(HydraException) as caught:
        OverridesParser.create().parse_overrides(["images"])
    assert "'images' is not an argument of the form key=value" in quoting_advice(caught.value)


def test_an_ambiguous_comma(composed):
    with pytest.raises(HydraException, match="Ambiguous value") as caught:
        composed("data.root=/a,b")
    assert quoting_advice(caught.value) == "\nto use the value as text, write 'data.root=\"/a,b\"'"
    assert quoting_advice(ValueError("x")) == ""
