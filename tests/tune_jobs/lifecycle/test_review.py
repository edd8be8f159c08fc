"""Reports of sweeps of every kind, and what a browser makes of them."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from handclip_core.models.backbone import BackboneSettings
from handclip_core.runs.baselines import ABOUT as BASELINES
from handclip_core.runs.baselines import BaselineGap
from handclip_core.runs.run_folder import write_json
from handclip_core.strategies import Full, ZeroShot
from tests.tune_jobs.finals.conftest import AT, TRIALS, write_sweep
from tests.tune_jobs.finals.entries import entrant, looked
from tune_jobs.finals.final_test import FinalTest
from tune_jobs.finals.past_sweep import read_sweep
from tune_jobs.finals.ranking import Cost, rank
from tune_jobs.finals.report import FinalsReport
from tune_jobs.lifecycle.folders import BEST
from tune_jobs.lifecycle.reading import read_record
from tune_jobs.lifecycle.review import report, write_report
from tune_jobs.reporting.page import Page, Section
from tune_jobs.review import app
from tune_jobs.state.events import Ended, Retried, Saved
from tune_jobs.storage.sync import FINALS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
HOSTILE = "<script>document.title='broken'</script>"
PROBE = """<script>
addEventListener("load", () => {
  document.querySelectorAll(".plot").forEach(draw);
  const choice = document.querySelector("select"), search = document.querySelector("input[type=search]");
  choice.value = "full"; choice.dispatchEvent(new Event("input", {bubbles: true}));
  const chosen = document.querySelector("output").textContent;
  choice.value = ""; search.value = "linear"; search.dispatchEvent(new Event("input", {bubbles: true}));
  const found = document.querySelector("output").textContent;
  const heading = [...document.querySelectorAll(".sortable th")].find(one => one.textContent === "mAP");
  heading.click(); heading.click();
  const first = document.querySelector(".sortable tbody tr").cells[0].textContent;
  document.title = JSON.stringify([chosen, found, first, document.querySelectorAll(".plot svg.main-svg").length > 0,
    [...document.querySelectorAll(".plot")].every(plot => plot.querySelector("svg.main-svg")),
    performance.getEntriesByType("resource").length, document.documentElement.scrollWidth <= innerWidth,
    [...document.querySelectorAll("pre")].every(code => code.scrollWidth <= code.clientWidth)]);
});
</script>"""


def swept(folder: Path, trials: Any = TRIALS, **more: Any) -> Path:
    write_sweep(folder, trials, backbone=BackboneSettings(), **more)
    return folder


def hold(folder: Path, test: FinalTest | None = None) -> None:
    """Leave what finals leave."""
    standings = rank([entrant("zero_shot", 0.9, trial=0), entrant("full", 0.3, trial=2, swept=0.7)])
    (folder / FINALS).mkdir()
    failures = {"full, trial 3, seed 1001": HOSTILE}
    FinalsReport(read_sweep(folder), (1001, 1002, 1003), standings, Cost(False, 1.0), failures, test).write(
        folder / FINALS
    )


def section(page: Page, title: str) -> Section:
    return next(one for one in page.sections if one.title == title)


def test_the_page_of_a_sweep_says_which_how_sure_and_at_what_cost_and_what_to_run(tmp_path: Path) -> None:
    page = report(read_record(swept(tmp_path / "tiny")))
    assert (
        page.verdict[0]
        == "Best so far: trial 2, full, with validation mAP 70.00 %, +20.00 to CLIP as it is; the search took 0.00 h."
    )
    assert "flatters" in page.verdict[1]
    assert page.tiles["best so far"] == "full, trial 2"
    assert "tune_jobs/finalists.py tiny --storage" in section(page, "Finals").missing
    board = section(page, "Leaderboard").tables[0]
    assert [str(row[0]) for row in board.rows] == ["2", "3", "1", "0"]
    assert "trials: 50" in section(page, "To reproduce").code
    titles = [one.title for one in page.sections]
    order = ["What was measured", "Strategies", "Leaderboard", "Progress", "Hyperparameters", "Pareto front"]
    order += ["Expected best", "Identification and verification", "What it finds", "Forgetting", "By group", "Finals"]
    order += ["Failures and resources", "Accesses to the test identities", "How to load the winner", "To reproduce"]
    assert titles == order
    assert all(one.lines or one.tables or one.figures or one.missing or one.code for one in page.sections)


@pytest.mark.parametrize(
    ("low", "high", "first", "said"),
    [
        (0.1, 0.3, False, "The winner beats the best of 2 baselines, wccn_hog: difference +20.00 mAP"),
        (-0.1, 0.5, True, "The winner is not shown to beat the baseline wccn_hog, which uses no CLIP: difference +20"),
        (-0.5, -0.1, True, "The winner is worse than the baseline wccn_hog, which uses no CLIP"),
    ],
)
def test_a_baseline_that_is_not_beaten_comes_first(
    tmp_path: Path, low: float, high: float, first: bool, said: str
) -> None:
    folder = swept(tmp_path / "tiny", more=[Saved(at=AT, trial=2, unit=2, checkpoint="trials/2", size=1)])
    gaps = [
        BaselineGap(name=name, value=value, difference=0.7 - value, low=low, high=high)
        for name, value in (("wccn_hog", 0.5), ("pixels", 0.2))
    ]
    (folder / BEST).mkdir()
    write_json(folder / BEST / BASELINES, [gap.model_dump() for gap in gaps])
    page = report(read_record(folder))
    assert page.verdict[0 if first else 2].startswith(said)
    assert page.verdict[1 if first else 0].startswith("Best so far")
    table = section(page, "Baselines").tables[0]
    assert table.rows[0] == ("wccn_hog", "50.00", "+20.00", f"{100 * low:+.2f} to {100 * high:+.2f}")


def test_after_the_finals_their_verdict_comes_first_until_the_sweep_goes_on(tmp_path: Path) -> None:
    folder = swept(tmp_path / "tiny")
    hold(folder)
    sweep = read_record(folder)
    page = report(sweep)
    assert page.verdict[0].startswith("Winner: full, trial 2, validation mAP ")
    titles = [one.title for one in page.sections]
    assert titles.index("Verdict by strategy") < titles.index("Strategies") < titles.index("Finals")
    assert page.tiles["winner"] == "full, trial 2"
    late = Ended(at=4e9, trial=3, status="complete")
    gone_on = report(type(sweep)(sweep.where, sweep.folder, sweep.settings, [*sweep.events, late]))
    assert gone_on.verdict[0].startswith("Best so far")
    assert "gone on since" in section(gone_on, "Finals").missing


@pytest.mark.parametrize(("test", "model"), [(None, "tiny/best"), (looked(1), "tiny/finals/model/abc")])
def test_how_to_load_the_winner_is_of_the_final_model_once_there_is_one(
    tmp_path: Path, test: FinalTest | None, model: str
) -> None:
    folder = swept(tmp_path / "tiny")
    (folder / BEST).mkdir()
    hold(folder, test)
    page = report(read_record(folder))
    assert f"open_run('{tmp_path}/{model}')" in section(page, "How to load the winner").code
    assert [one.title for one in page.sections].count("How to load the winner") == 1
    assert page.sections[-1].title == "To reproduce"


@pytest.mark.parametrize(
    ("trials", "said"),
    [(((Full(), 0.61),), "Best so far: trial 0, full"), (((ZeroShot(), None), (Full(), None)), "No trial has a score")],
)
def test_a_sweep_of_one_trial_and_one_of_failures_have_a_report(tmp_path: Path, trials: Any, said: str) -> None:
    page = report(read_record(swept(tmp_path / "tiny", trials)))
    assert page.verdict[0].startswith(said)
    assert page.html()
    trouble = section(page, "Failures and resources")
    assert len(trouble.tables) == (0 if "Best" in said else 1)


def test_reasons_of_failures_and_retries_are_told_and_escaped(tmp_path: Path) -> None:
    more = [Retried(at=AT, trial=0, reason=HOSTILE), Ended(at=AT, trial=0, status="failed", reason=HOSTILE)]
    page = report(read_record(swept(tmp_path / "tiny", more=more)))
    failed, again = section(page, "Failures and resources").tables
    assert failed.rows[0][2] == f"failed: {HOSTILE}"
    assert again.rows == (("retried", HOSTILE, "1"),)
    assert HOSTILE not in page.html()


def test_the_command_writes_three_files_also_amid_a_sweep(tmp_path: Path) -> None:
    swept(tmp_path / "runs" / "tiny", ended=False)
    out = tmp_path / "elsewhere"
    given = ["tiny", "--storage", str(tmp_path / "runs")]
    found = CliRunner().invoke(app, [*given, "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "report.md"]
    assert not (tmp_path / "runs" / "tiny" / "report.html").exists()
    assert "ended before its last trial: interrupted" in (out / "report.md").read_text("utf-8")
    assert CliRunner().invoke(app, given).exit_code == 0
    assert (tmp_path / "runs" / "tiny" / "report.html").exists()
    (tmp_path / "file").write_text("")
    for wrong in (["tinny", "--storage", str(tmp_path / "runs")], [*given, "--out", str(tmp_path / "file")]):
        found = CliRunner().invoke(app, wrong)
        assert found.exit_code == 2
        assert len(found.output.strip().splitlines()) == 1


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_every_figure_filters_and_sorts_rows_and_fetches_nothing(tmp_path: Path, width: int) -> None:
    folder = swept(tmp_path / "tiny")
    hold(folder)
    html = write_report(read_record(folder))[0]
    html.write_text(html.read_text("utf-8").replace("</body>", f"{PROBE}</body>"), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--window-size={width},900"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [CHROMIUM, *options, profile, "--virtual-time-budget=10000", "--dump-dom", html.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", ran.stdout)
    assert title is not None
    assert title.group(1) == '["2 of 4 rows","1 of 4 rows","0",true,true,0,true,true]', ran.stderr
    assert "CONSOLE" not in ran.stderr
