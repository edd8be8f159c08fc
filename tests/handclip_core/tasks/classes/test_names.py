from pathlib import Path

import pytest

from handclip_core.errors import InputError
from handclip_core.tasks.classes.names import TEMPLATES, class_names, read_names, readable
from handclip_core.types import Templates


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("riding_a_horse", "riding a horse"),
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("001.Black_footed_Albatross", "black footed albatross"),
        ("12-jump", "jump"),
        ("using TV", "using TV"),
        ("walking the dog", "walking the dog"),
        ("zähneputzen", "zähneputzen"),
        ("size 42", "size 42"),
    ],
)
def test_folders_become_words(folder: str, name: str) -> None:
    assert readable(folder) == name


def test_every_set_of_sentences_takes_a_name() -> None:
    for kind in Templates:
        texts = [one.format("a palm") for one in TEMPLATES[kind]]
        assert all("a palm" in text for text in texts)
        assert len(set(texts)) == len(texts)


def test_names_of_the_users_own_come_first(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text("\ufeffn01,a goldfish\n\n", encoding="utf-8")
    assert class_names(["n01", "big_cat"], given=read_names(file, ["n01", "big_cat"])) == ("a goldfish", "big cat")


def test_folders_and_names_may_hold_commas(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text('"cats, big","a lion, or a tiger"\nn01,"a goldfish"\nn02,a dog, running\n', encoding="utf-8")
    found = read_names(file, ["cats, big", "n01", "n02"])
    assert found == {"cats, big": "a lion, or a tiger", "n01": "a goldfish", "n02": "a dog, running"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n01 goldfish", "line 1: write folder,name"),
        ("n01,", "line 1: write folder,name"),
        ("n02,fish", "line 1: there is no class 'n02'"),
        ("n01,fish\nn01,cat", "line 2: class 'n01' is named twice"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_names(tmp_path / "names.csv", ["n01"])


def test_names_without_words_or_of_two_classes_are_refused() -> None:
    with pytest.raises(InputError, match="class '0017': its name holds no word"):
        class_names(["cat", "0017"], given={})
    with pytest.raises(InputError, match="classes big_cat, BigCat: all are called 'big cat'"):
        class_names(["big_cat", "BigCat"], given={})
