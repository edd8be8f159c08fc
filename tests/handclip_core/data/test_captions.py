from typing import Any

import pandas as pd
import pytest

from handclip_core.data.captions import captions
from handclip_core.data.manifest import COLUMNS, typed_columns

FULL: dict[str, str] = {
    "aspect": "dorsal right", "gender": "female", "skin_tone": "very fair",
    "nail_polish": "1", "accessories": "1", "irregularities": "0",
}  # fmt: skip


def table(*rows: dict[str, str]) -> pd.DataFrame:
    return typed_columns(pd.DataFrame([dict.fromkeys(COLUMNS, "") | row for row in rows], dtype=str))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "a photo of the back of a woman's right hand with very fair skin, nail polish and jewellery"),
        ({"aspect": "palmar left"}, "a photo of the palm of a woman's left hand with very fair skin, nail polish and "
         "jewellery"),
        ({"gender": "male", "nail_polish": "0"}, "a photo of the back of a man's right hand with very fair skin and "
         "jewellery"),
        ({"skin_tone": "", "nail_polish": "", "accessories": ""}, "a photo of the back of a woman's right hand"),
        ({"gender": "", "aspect": "unknown", "irregularities": "1"}, "a photo of a hand with very fair skin, nail "
         "polish, jewellery and irregularities"),
    ],
)  # fmt: skip
def test_a_caption_says_what_is_known(changed: dict[str, str], expected: str) -> None:
    assert captions(table({**FULL, **changed})).texts == (expected,)


def test_images_alike_share_a_caption() -> None:
    rows: list[dict[str, Any]] = [FULL, {**FULL, "identity": "7", "age": "40"}, {**FULL, "skin_tone": "dark"}]
    found = captions(table(*rows))
    assert len(found.texts) == 2
    assert found.text_of_row[0] == found.text_of_row[1] != found.text_of_row[2]
    assert "dark" in found.texts[found.text_of_row[2]]
