import csv
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chaos.processes import processes_of, wait_until
from handclip_core.drawn import draw_arrays, draw_image, person, write_data_set
from handclip_core.drawn.dataset import identity_ids
from handclip_core.errors import InputError
from handclip_core.types import HAND_ASPECTS
from tests.limits import LIMIT_S

CUTS = {"dorsal right": 1050, "dorsal left": 1037, "palmar right": 1051, "palmar left": 1042}


def _rows(root: Path) -> list[dict[str, str]]:
    with (root / "HandInfo.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "set"
    return write_data_set(root, people=4, images_per_aspect=2, height_px=48, workers=1)


def test_the_layout_is_that_of_11k_hands(written: Path) -> None:
    header = (written / "HandInfo.csv").read_text().splitlines()[0]
    assert header == "id,age,gender,skinColor,accessories,nailPolish,aspectOfHand,imageName,irregularities"
    rows = _rows(written)
    assert [row["imageName"] for row in rows] == [f"Hand_{n:07d}.jpg" for n in range(1, len(rows) + 1)]
    assert {path.name for path in (written / "Hands").iterdir()} == {row["imageName"] for row in rows}
    assert all(len(row["id"]) == 7 and row["id"].isdigit() for row in rows)
    assert {row["gender"] for row in rows} <= {"male", "female"}
    assert {row["skinColor"] for row in rows} <= {"very fair", "fair", "medium", "dark"}
    assert all(18 <= int(row["age"]) <= 75 for row in rows)
    assert all(row[flag] in "01" for row in rows for flag in ("accessories", "nailPolish", "irregularities"))
    with Image.open(written / "Hands" / rows[0]["imageName"]) as opened:
        assert (opened.format, opened.size) == ("JPEG", (64, 48))


def test_every_person_has_the_asked_number_of_images_without_accessories(written: Path) -> None:
    plain = Counter((row["id"], row["aspectOfHand"]) for row in _rows(written) if row["accessories"] == "0")
    assert len(plain) == 4 * 4
    assert set(plain.values()) == {2}


def test_every_published_cut_parts_the_people_in_halves(written: Path) -> None:
    for aspect, cut in CUTS.items():
        ids = {int(row["id"]) for row in _rows(written) if row["aspectOfHand"] == aspect}
        assert sum(number <= cut for number in ids) == sum(number > cut for number in ids) == 2


def test_many_people_keep_distinct_ids_and_the_rest_goes_above_the_cuts() -> None:
    ids = [int(number) for number in identity_ids(3000)]
    assert len(set(ids)) == 3000
    assert sum(number <= 1037 for number in ids) == 1037
    assert all(number <= 1037 or number > 1051 for number in ids)


@pytest.mark.spawn
def test_two_processes_write_the_same_bytes_as_one(written: Path, tmp_path: Path) -> None:
    again = write_data_set(tmp_path / "again", people=4, images_per_aspect=2, height_px=48, workers=2)
    for path in sorted(written.rglob("*")):
        if path.is_file():
            assert (again / path.relative_to(written)).read_bytes() == path.read_bytes()


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Path] = []

    def interrupted(path: Path, *_: object) -> None:
        drawn.extend((path.parent / "Hands").iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr("handclip_core.drawn.dataset._write_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_data_set(tmp_path / "set", people=1, images_per_aspect=1, height_px=32, workers=1)
    assert drawn
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spawn
def test_a_killed_write_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from handclip_core.drawn import write_data_set\n"
        "write_data_set(Path(sys.argv[1]), people=40, images_per_aspect=9, height_px=48, workers=1)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "set")])
    try:
        while not list(tmp_path.rglob("*.jpg")):
            assert writer.poll() is None
            time.sleep(0.02)
    finally:
        writer.kill()
        writer.wait()
    assert not (tmp_path / "set").exists()
    assert not list(tmp_path.rglob("HandInfo.csv"))


def test_a_folder_in_use_and_impossible_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        write_data_set(tmp_path, people=1, images_per_aspect=1, height_px=32, workers=1)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(InputError, match="people is 0"):
        write_data_set(tmp_path / "none", people=0, images_per_aspect=1)
    assert not (tmp_path / "none").exists()


def test_images_are_dealt_out_to_sittings_and_those_of_the_first_are_what_they_were(
    written: Path, tmp_path: Path
) -> None:
    """``written`` holds the same hands in one sitting."""
    again = write_data_set(tmp_path / "two", people=4, images_per_aspect=2, height_px=48, sittings=2, workers=1)
    rows = _rows(again)
    assert rows == _rows(written), "what is worn does not depend on the sitting"
    place: Counter[tuple[str, str]] = Counter()
    for row in rows:
        name, hand = f"Hands/{row['imageName']}", (row["id"], row["aspectOfHand"])
        assert ((again / name).read_bytes() == (written / name).read_bytes()) == (place[hand] % 2 == 0)
        place[hand] += 1


def test_arrays_hold_the_images_that_their_labels_name() -> None:
    drawn = draw_arrays(
        population="pretrain", seed=2, people=2, images_per_aspect=2, height_px=48, workers=1, captions=True
    )
    assert drawn.pixels.shape == (16, 48, 64, 3)
    assert len(drawn.captions) == 16
    for n in (0, 5, 11, 14):
        someone, aspect = person("pretrain", 2, int(drawn.person[n])), HAND_ASPECTS[int(drawn.aspect[n])]
        np.testing.assert_array_equal(drawn.pixels[n], draw_image(someone, aspect, shot=n % 2, height_px=48).pixels)
        assert f" {aspect.split()[1]} " in drawn.captions[n]


def test_a_drawing_process_starts_without_torch() -> None:
    code = "import sys, handclip_core.drawn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.spawn
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_drawing_processes_end_with_the_one_that_started_them(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "from pathlib import Path\nfrom handclip_core.drawn import write_data_set\n"
        f"root = Path({str(tmp_path / 'set')!r})\n"
        "if __name__ == '__main__':\n"
        "    write_data_set(root, people=60, images_per_aspect=60, height_px=96, workers=2)\n"
    )
    (tmp_path / "draw.py").write_text(code)
    with subprocess.Popen([sys.executable, str(tmp_path / "draw.py")], start_new_session=True) as process:
        wait_until(lambda: any(tmp_path.glob(".set-*/Hands/*.jpg")), what="the first image", limit_s=LIMIT_S)
        assert len(processes_of(process.pid)) >= 3
        process.send_signal(number)
        process.wait(timeout=LIMIT_S)
    wait_until(lambda: not processes_of(process.pid), what="the end of all that it started", limit_s=LIMIT_S)


def test_every_image_has_captions_of_both_styles_that_say_what_the_table_says(written: Path) -> None:
    table = {f"Hands/{row['imageName']}": row for row in _rows(written)}
    with (written / "captions.csv").open(newline="") as file:
        told = [(row["filepath"], row["title"]) for row in csv.DictReader(file)]
    assert {path for path, _ in told} == set(table)
    assert len(set(told)) == len(told)
    notes: Counter[str] = Counter()
    for path, text in told:
        face, side = table[path]["aspectOfHand"].split()
        if ";" in text:
            notes[path] += 1
            assert text.startswith(
                f"{side[0].upper()} {'palm.' if face == 'palmar' else 'dors.'}; {table[path]['skinColor']}"
            )
        else:
            assert side in text
            assert ("palm" in text.split(" with ")[0]) == (face == "palmar")
    assert set(notes.values()) <= {1, 2}
    assert set(notes) == set(table)
