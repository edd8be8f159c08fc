"""What SECURITY.md says about loading, held against the code of the three packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("handclip_core", "search_spaces", "tune_jobs")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
EXCEPTIONS = {
    # Reads what its own process has just written, in Ray's session folder.
    "cloudpickle.loads": "tune_jobs/execution/failures.py",
    # OpenAI's own weight files, where the settings name one.
    "torch.jit.load": "handclip_core/models/backbone.py",
}


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with its dotted name."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_loaded_that_could_run(file: Path) -> None:
    for name, call in calls(file):
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name == "torch.load":
            assert keywords["weights_only"] == "True"
        if name.startswith("yaml."):
            assert name in {"yaml.safe_load", "yaml.safe_dump"}
        assert keywords.get("allow_pickle", "False") == "False"
        assert keywords.get("shell", "False") == "False"
        assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "pd.read_pickle", "pandas.read_pickle"}
        assert EXCEPTIONS.get(name) in {None, str(file.relative_to(ROOT))}


def test_the_one_pickle_is_read_from_the_drivers_own_disk() -> None:
    text = (ROOT / EXCEPTIONS["cloudpickle.loads"]).read_text()
    assert text.count("cloudpickle.loads") == 1
    assert "cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())" in text
