"""Journals of whole sweeps, damaged at random: healed as half a last line, or refused, never read as another sweep."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from handclip_core.errors import InputError
from tests.tune_jobs.dying import Killed
from tests.tune_jobs.simulated import run, settings
from tune_jobs.reporting.leaderboard import leaderboard
from tune_jobs.state import journal as module
from tune_jobs.state.journal import FILE, TIP, Journal, Tip, read_journal
from tune_jobs.state.trials import folded

TIMES = 200
"""Random damages of a kind."""


class Swept(NamedTuple):
    """What a driver has left: its journal, the note of the journal's end, and the leaderboard that follows."""

    journal: bytes
    tip: bytes
    board: str

    @property
    def lines(self) -> list[bytes]:
        """The whole lines, with their ends."""
        return self.journal[: self.num_whole].splitlines(keepends=True)

    @property
    def num_whole(self) -> int:
        """Bytes of the whole lines."""
        return self.journal.rindex(b"\n") + 1


FINISHED, IN_A_LINE, BEFORE_THE_NOTE = "finished", "killed in a line", "killed between a line and its note"
KILLED_AT = 20
"""Lines before that at which a driver is killed."""


@pytest.fixture(scope="module", params=[FINISHED, IN_A_LINE, BEFORE_THE_NOTE])
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A sweep that a driver has finished, and those of drivers that were killed while they wrote."""
    storage = tmp_path_factory.mktemp("swept")
    chosen = settings(storage, strategies=("linear_probe", "adapters"), trials=4, budget=2)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == FINISHED:
            run(chosen)
        else:
            patch.setattr(Journal, "_write", killed(half=request.param == IN_A_LINE))
            with pytest.raises(Killed):
                run(chosen)
    path = storage / chosen.name / FILE
    found = Swept(path.read_bytes(), path.with_name(TIP).read_bytes(), leaderboard(folded(read_journal(path))))
    assert len(found.lines) - int(found.tip.split()[0]) == (request.param == BEFORE_THE_NOTE)
    assert found.journal.endswith(b"\n") == (request.param != IN_A_LINE)
    return found


def killed(*, half: bool) -> Callable[[Journal, bytes, Tip], None]:
    """A write that kills its driver at one line: after ``half`` of it, or before the note of its end."""
    write, written = Journal._write, [0]

    def dying(self: Journal, line: bytes, tip: Tip) -> None:
        written[0] += 1
        if written[0] <= KILLED_AT:
            write(self, line, tip)
            return
        with self._path.open("ab") as file:
            file.write(line[: len(line) // 2] if half else line)
        raise Killed

    return dying


def board_of(folder: Path, journal: bytes, tip: bytes | None) -> str | None:
    """The leaderboard after a damaged journal; None if it is refused with the file, a line and the mend."""
    path = folder / FILE
    path.write_bytes(journal)
    path.with_name(TIP).unlink(missing_ok=True)
    if tip is not None:
        path.with_name(TIP).write_bytes(tip)
    try:
        return leaderboard(folded(read_journal(path)))
    except InputError as error:
        told = str(error)
    assert re.match(rf"{re.escape(str(path))}: .*line \d+", told), told
    assert told.endswith("; put back copies of journal.jsonl and journal.tip, or begin another sweep"), told
    assert "\n" not in told
    with pytest.raises(InputError, match=re.escape(told)):
        Journal(path)
    assert path.read_bytes() == journal, "nothing is changed"
    return None


def test_a_cut_is_healed_within_the_last_line_alone(swept: Swept, tmp_path: Path) -> None:
    numbers = random.Random(0)
    cuts = [numbers.randrange(len(swept.journal)) for _ in range(TIMES)]
    noted = sum(map(len, swept.lines[: int(swept.tip.split()[0])]))
    cuts += [noted - 1, noted, swept.num_whole - 1, swept.num_whole, len(swept.journal) - 1]
    for cut in cuts:
        found = board_of(tmp_path, swept.journal[:cut], swept.tip)
        if cut < noted:
            assert found is None, f"cut at {cut}"
        elif cut >= swept.num_whole:
            assert found == swept.board, f"cut at {cut}"
        else:  # the line that a driver died with, before anything followed from it
            assert found is not None


def test_a_bit_that_was_flipped_is_refused(swept: Swept, tmp_path: Path) -> None:
    numbers = random.Random(1)
    for _ in range(TIMES):
        at, bit = numbers.randrange(len(swept.journal)), 1 << numbers.randrange(8)
        damaged = bytearray(swept.journal)
        damaged[at] ^= bit
        found = board_of(tmp_path, bytes(damaged), swept.tip)
        # What follows the last whole line has never happened, whatever it is.
        assert found is None or (at >= swept.num_whole and found == swept.board), f"bit {bit} of byte {at}"


def test_a_line_that_is_gone_is_refused(swept: Swept, tmp_path: Path) -> None:
    noted = int(swept.tip.split()[0])
    for number in range(noted):
        lines = swept.lines
        del lines[number]
        assert board_of(tmp_path, b"".join(lines), swept.tip) is None, f"without line {number + 1}"


def test_lines_that_were_swapped_or_doubled_are_refused(swept: Swept, tmp_path: Path) -> None:
    numbers = random.Random(2)
    for _ in range(50):
        a, b = numbers.sample(range(len(swept.lines)), 2)
        lines = swept.lines
        lines[a], lines[b] = lines[b], lines[a]
        assert board_of(tmp_path, b"".join(lines), swept.tip) is None, f"lines {a + 1} and {b + 1} swapped"
    for number, line in enumerate(swept.lines):
        lines = swept.lines
        lines.insert(number, line)
        assert board_of(tmp_path, b"".join(lines), swept.tip) is None, f"line {number + 1} twice"


def test_a_line_that_was_edited_is_refused_though_it_is_valid(swept: Swept, tmp_path: Path) -> None:
    numbers, edited = re.compile(rb"[1-9](?=[0-9.,])"), 0
    for number, line in enumerate(swept.lines):
        body = line[: line.rindex(b',"check":')]
        changed = numbers.sub(b"4", body, count=1)
        if changed == body:
            continue
        lines, edited = swept.lines, edited + 1
        lines[number] = changed + line[len(body) :]
        assert board_of(tmp_path, b"".join(lines), swept.tip) is None, f"line {number + 1} edited"
    assert edited > len(swept.lines) / 2


def test_a_line_that_was_edited_with_its_checksum_is_refused_too(swept: Swept, tmp_path: Path) -> None:
    """The next line's checksum, or the note of the end, does not agree with it."""
    noted = int(swept.tip.split()[0])
    for number in range(noted):
        lines = swept.lines
        before = 0 if number == 0 else int(lines[number - 1][-11:-3], 16)
        body = lines[number][: lines[number].rindex(b',"check":')] + b"}"
        lines[number] = module._sealed(re.sub(rb'"at":1', b'"at":2', body), before)[1]
        assert lines[number] != swept.lines[number]
        assert board_of(tmp_path, b"".join(lines), swept.tip) is None, f"line {number + 1} edited"


def test_lines_of_another_sweep_are_refused(swept: Swept, tmp_path: Path) -> None:
    run(settings(tmp_path / "other", strategies=("linear_probe", "adapters"), trials=2, budget=1))
    other = (tmp_path / "other" / "simulated" / FILE).read_bytes()
    assert board_of(tmp_path, swept.journal[: swept.num_whole] + other, swept.tip) is None
    assert board_of(tmp_path, other, swept.tip) is None
    later = b"".join(other.splitlines(keepends=True)[len(swept.lines) :])
    assert board_of(tmp_path, swept.journal[: swept.num_whole] + (later or other), swept.tip) is None


def tip_after(swept: Swept, number: int, *, more: int = 0, check: int | None = None) -> bytes:
    """The note after line ``number``, or one that tells of ``more``."""
    found = int(swept.lines[number - 1][-11:-3], 16)
    return Tip(number + more, found if check is None else check).to_bytes()


def test_an_older_note_is_no_damage(swept: Swept, tmp_path: Path) -> None:
    for number in range(1, len(swept.lines)):
        assert board_of(tmp_path, swept.journal, tip_after(swept, number)) == swept.board


def test_a_note_of_lines_that_are_not_there_or_are_others_is_refused(swept: Swept, tmp_path: Path) -> None:
    last = len(swept.lines)
    for tip in (tip_after(swept, last, more=1), tip_after(swept, last, more=1000), tip_after(swept, last, check=1)):
        assert board_of(tmp_path, swept.journal, tip) is None
    for number in range(1, last):
        assert board_of(tmp_path, swept.journal, tip_after(swept, number, check=1)) is None


@pytest.mark.parametrize("tip", [None, b"", b"\0" * 22])
def test_a_note_that_is_gone_is_refused(swept: Swept, tmp_path: Path, tip: bytes | None) -> None:
    assert board_of(tmp_path, swept.journal, tip) is None
    assert board_of(tmp_path, b"".join(swept.lines[:2]), tip) is None
