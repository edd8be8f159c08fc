"""The directions of imports, the sizes of files, and the parts of a repository that tools rely on."""

import ast
import functools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("handclip_core", "search_spaces", "tune_jobs", "chaos")
SOURCES = tuple(sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")))

FOLDERS = (
    "storage", "config", "state", "search", "scheduling", "reporting", "execution", "lifecycle", "finals",
)  # fmt: skip
"""Folders of the service: each imports from itself and from those before it."""

MAY_NOT_IMPORT = {
    "handclip_core": ("ray", "optuna", "search_spaces", "tune_jobs", "chaos"),
    "search_spaces": ("ray", "tune_jobs", "chaos"),
    "tune_jobs": ("chaos", "tests"),
    **{f"tune_jobs/{name}": ("ray",) for name in FOLDERS if name != "execution"},
    "handclip_core/config.py": ("torch", "handclip_core.data", "handclip_core.engine", "handclip_core.strategies"),
    "handclip_core/data": (
        "handclip_core.engine",
        "handclip_core.strategies",
        "handclip_core.models",
        "handclip_core.tasks",
    ),
    "handclip_core/losses": ("handclip_core.strategies", "handclip_core.engine.loop"),
    "handclip_core/models": ("handclip_core.engine", "handclip_core.strategies", "handclip_core.tasks"),
    "handclip_core/engine": (
        "handclip_core.strategies",
        "handclip_core.tasks",
        "handclip_core.evaluation",
        "handclip_core.runs",
    ),
    "handclip_core/tasks": ("handclip_core.engine", "handclip_core.strategies", "handclip_core.runs"),
    "handclip_core/strategies": (
        "handclip_core.engine.loop",
        "handclip_core.runs.experiment",
        "handclip_core.runs.run_folder",
    ),
    "handclip_core/evaluation": ("handclip_core.engine", "handclip_core.strategies", "handclip_core.tasks"),
}
MAX_MODULES = 15
ONLY_IMPORTED_BY = {
    "open_clip": ["handclip_core/models/architectures.py"],
    "jinja2": ["tune_jobs/reporting/page.py"],
    "plotly": ["tune_jobs/reporting/page.py"],
    "peft": ["handclip_core/models/lora.py"],
    "pytorch_metric_learning": ["handclip_core/losses/metric.py"],
    "skimage": ["handclip_core/evaluation/baselines.py"],
}
KNOW_TASKS = (
    "handclip_core/tasks", "handclip_core/strategies", "handclip_core/commands/prepare.py", "search_spaces/by_task.py",
)  # fmt: skip
"""Who may import the modules of one task: strategies say which they serve, ``prepare`` has a command for each."""
MAX_LINES, MAX_FUNCTION_LINES = 350, 60


@functools.cache
def imports_of(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def loaded_with(module: str) -> set[str]:
    """Modules that importing ``module`` imports: of this repository by what is imported outside functions."""
    found, left = set[str](), [module]
    while left:
        current = left.pop()
        if current in found:
            continue
        found.add(current)
        path = ROOT / Path(*current.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.exists():
            continue
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                # A name that is imported may be a module too.
                left += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def starts_with(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("part", MAY_NOT_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    files = [path for path in SOURCES if name_of(path) == part or name_of(path).startswith(f"{part}/")]
    assert files
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in files
        for module in imports_of(path)
        for forbidden in MAY_NOT_IMPORT[part]
        if starts_with(module, forbidden)
    ]
    assert wrong == []


def test_the_service_is_its_commands_and_its_folders() -> None:
    found = {path.name for path in (ROOT / "tune_jobs").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert found == set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_of_the_service_imports_from_those_before_it(folder: str) -> None:
    later = FOLDERS[FOLDERS.index(folder) + 1 :]
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in (ROOT / "tune_jobs" / folder).rglob("*.py")
        for module in imports_of(path)
        if any(starts_with(module, f"tune_jobs.{name}") for name in later)
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_of_the_service_says_which_question_it_answers_and_stays_small(folder: str) -> None:
    where = ROOT / "tune_jobs" / folder
    question = ast.get_docstring(ast.parse((where / "__init__.py").read_text())) or ""
    assert question.split("\n")[0].endswith("?")
    assert len([path for path in where.rglob("*.py") if path.name != "__init__.py"]) <= MAX_MODULES


def test_every_module_of_the_services_folders_has_one_file_of_tests_and_every_such_file_its_module() -> None:
    modules = {
        path.relative_to(ROOT).with_name(f"test_{path.name}").as_posix()
        for name in FOLDERS
        for path in (ROOT / "tune_jobs" / name).rglob("*.py")
        if path.stem != "__init__"
    }
    tests = {
        path.relative_to(ROOT / "tests").as_posix()
        for name in FOLDERS
        for path in (ROOT / "tests" / "tune_jobs" / name).rglob("test_*.py")
    }
    assert tests == modules


def test_a_task_is_known_by_name_to_its_folder_and_to_what_serves_it_alone() -> None:
    tasks = [f"handclip_core.tasks.{path.name}" for path in (ROOT / "handclip_core/tasks").iterdir() if path.is_dir()]
    wrong = [
        f"{name_of(path)} imports {module}"
        for path in SOURCES
        if not name_of(path).startswith(KNOW_TASKS)
        for module in imports_of(path)
        if any(starts_with(module, task) for task in tasks)
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ONLY_IMPORTED_BY)
def test_a_library_is_imported_in_one_place(library: str) -> None:
    users = [name_of(path) for path in SOURCES if any(starts_with(module, library) for module in imports_of(path))]
    assert users == ONLY_IMPORTED_BY[library]


@pytest.mark.parametrize("module", ["tune_jobs.lifecycle.run", "tune_jobs.finals.run", "handclip_core.runs.drive"])
def test_what_starts_a_sweep_does_not_wait_for_open_clip(module: str) -> None:
    """Its import takes longer than all else together; processes that train import it when they load a backbone."""
    loaded = loaded_with(module)
    assert "handclip_core.runs.experiment" in loaded
    assert loaded & {"open_clip", "peft", "handclip_core.models.architectures"} == set()


def test_files_and_functions_stay_small() -> None:
    long_files = [name_of(path) for path in SOURCES if len(path.read_text().splitlines()) > MAX_LINES]
    assert long_files == []
    long_functions = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long_functions == []


def test_no_image_but_those_in_docs_is_committed() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    endings = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".heic")
    images = [name for name in files if name.lower().endswith(endings) and not name.startswith("docs/images/")]
    assert images == []


def test_the_ci_script_calls_the_readme_commands() -> None:
    assert re.search(r"^make .*check test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert "make test" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make")
def test_make_runs_every_file_with_tests_that_are_too_long_for_every_run() -> None:
    ran = subprocess.run(["make", "--dry-run", "test-faults"], cwd=ROOT, capture_output=True, text=True, check=True)
    given = ran.stdout.split()
    marked = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if "@pytest.mark." + "faults" in path.read_text()
    ]
    assert "tests/test_documented_commands.py" in marked
    assert [name for name in marked if not any(name.startswith(one) for one in given)] == []
