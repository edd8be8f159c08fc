import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tune_jobs.reporting.page import Figure, Image, Link, Page, Section, Strip, Table, plain

HOSTILE = "<script>alert(1)</script> a | b `c` </style>"
VOID = {"meta", "img", "input"}


class Balance(HTMLParser):
    """Fails on a tag that is closed but not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page() -> Page:
    table = Table.of(
        HOSTILE,
        {"who": [HOSTILE, Link(text="b", href="trials/b")], HOSTILE: ["1", "2"]},
        filters=("who",),
        shades={"0,1": -1.0},
    )
    figure = Figure(caption=HOSTILE, data=({"type": "scatter", "x": [1], "y": [2], "text": [HOSTILE]},))
    strip = Strip(caption=HOSTILE, images=(Image(source="data:,", caption=HOSTILE, mark="right"),))
    section = Section(title="All", lines=(HOSTILE,), code=HOSTILE, tables=(table,), figures=(figure,), strips=(strip,))
    empty = Section(title="Nothing yet", missing=HOSTILE)
    return Page(title=HOSTILE, verdict=(HOSTILE,), tiles={HOSTILE: HOSTILE}, sections=(section, empty))


def test_the_page_is_whole_and_fetches_nothing_whatever_people_are_called(page: Page) -> None:
    html = page.html()
    own = html.split("<script>", 1)[0]
    parser = Balance()
    parser.feed(own)
    assert parser.open == ["html", "body"]
    assert "alert(1)</script>" not in html
    assert parser.seen.count("script") == 1, "the data of the figure"
    assert re.findall(r"(?:src|href)=\"(?!data:|#|trials/)|url\(|@import", own) == []
    assert "default-src 'none'" in own
    assert html.count("plotly.js v") == 1, "the library is there once"


def test_the_twins_say_the_same(page: Page, tmp_path: Path) -> None:
    html, markdown, values = page.write(tmp_path)
    assert html.read_text("utf-8") == page.html()
    assert Page.from_file(values) == page
    assert json.loads(values.read_text("utf-8"))["verdict"] == [HOSTILE]
    text = markdown.read_text("utf-8")
    assert "<script>" not in text.replace(f"```\n{HOSTILE}\n```", "")
    assert text.count(plain(HOSTILE)) == 11


def test_markdown_tables_keep_their_columns(page: Page) -> None:
    rows = [line for line in page.markdown().splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}


def test_a_table_loses_columns_and_stays_within_the_width_of_a_terminal() -> None:
    columns = {"name": ["a long name of some words", "b"], "why": ["x", "y"], "figure": ["-32.08", "1"]}
    table = Table.of("Title", columns, num_words=2)
    less = table.without("why")
    assert (less.headings, less.num_words) == (("name", "figure"), 1)
    assert less.rows == (("a long name of some words", "-32.08"), ("b", "1"))
    lines = table.text(width=24).splitlines()
    assert max(map(len, lines)) <= 24
    assert any("-32.08" in line for line in lines), "figures stay on one line"
