"""What TensorBoard and optuna-dashboard show of a sweep, in a browser."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from chaos.processes import wait_until
from tests.limits import LIMIT_S
from tests.tune_jobs.simulated import run, settings
from tune_jobs.reporting.study import FILE as STUDY

DRIVER = shutil.which("chromedriver") or ""
pytestmark = [
    pytest.mark.faults,  # two servers and a browser: half a minute
    pytest.mark.browser,
    pytest.mark.skipif(not DRIVER, reason="there is no chromedriver"),
]
RATE = "strategy/optim/lr"
ALL = """
const all = [];
const walk = root => root.querySelectorAll("*").forEach(one => {
  all.push(one);
  if (one.shadowRoot) walk(one.shadowRoot);
});
walk(document);
"""
"""Every element of a page, in the shadow of others too."""
SORT_UP = f"""{ALL}
const [by, direction] = all.filter(one => one.tagName === "PAPER-LISTBOX");
const names = [...by.children].map(one => one.textContent.trim()).filter(Boolean);
by.selected = names.indexOf(arguments[0]);
direction.selected = 0;
return names;
"""
ROWS = f"""{ALL}
const pane = all.find(one => one.tagName === "TF-HPARAMS-QUERY-PANE");
return (pane && pane.sessionGroups || []).map(one => one.hparams[arguments[0]] ?? null);
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated sweep of three strategies."""
    where = tmp_path_factory.mktemp("shown")
    run(settings(where, trials=12))
    return where / "simulated"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,1000"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = Chrome(options=options, service=Service(DRIVER))
    yield found
    found.quit()


@contextmanager
def served(*command: str) -> Iterator[str]:
    """The address of a server that ``command`` starts, while the body runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        try:
            wait_until(lambda: answers(port), what="an answer", limit_s=LIMIT_S)
            yield f"http://127.0.0.1:{port}"
        finally:
            one.terminate()


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def errors(browser: Chrome) -> list[Any]:
    """What the console calls an error, but for an icon that a server lacks."""
    lines = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [line for line in lines if line["level"] == "SEVERE" and "favicon" not in line["message"]]


def test_tensorboard_sorts_trials_by_a_rate(folder: Path, browser: Chrome) -> None:
    with served(sys.executable, "-m", "tensorboard.main", "--logdir", str(folder / "tensorboard")) as address:
        browser.get(f"{address}/#hparams")
        wait = WebDriverWait(browser, LIMIT_S)
        before = wait.until(lambda page: page.execute_script(ROWS, RATE))
        assert len(before) == 12
        assert before != sorted(before)
        assert RATE in browser.execute_script(SORT_UP, RATE)
        assert wait.until(lambda page: page.execute_script(ROWS, RATE) == sorted(before))
        assert errors(browser) == []


def test_optuna_dashboard_shows_the_sweep_its_metric_and_its_trials(folder: Path, browser: Chrome) -> None:
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    assert program
    with served(program, f"sqlite:///{folder / STUDY}") as address:
        browser.get(f"{address}/dashboard")
        wait = WebDriverWait(browser, LIMIT_S)
        wait.until(lambda page: "simulated/linear_probe" in text_of(page))
        assert "1. simulated\nDirection: MAXIMIZE" in text_of(browser)
        browser.get(f"{address}/dashboard/studies/1")
        wait.until(lambda page: "Hyperparameter Importance" in text_of(page))
        wait.until(lambda page: "full/optim/weight_decay" in text_of(page))
        browser.get(f"{address}/dashboard/studies/1/trials")
        wait.until(lambda page: "Trial 0" in text_of(page))
        assert "Complete" in text_of(browser)
        assert "Pruned" in text_of(browser)
        assert errors(browser) == []


def text_of(page: Any) -> str:
    text: str = page.execute_script("return document.body.innerText")
    return text
