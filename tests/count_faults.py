"""How many faults and bad inputs are tried: ``python -m tests.count_faults`` prints the table of docs/operations.md."""

import functools
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAULTS = {
    "SIGTERM, SIGINT and SIGHUP, to a sweep or its group: from its imports to the export, and in finals": (
        "tests/tune_jobs/test_signals_to_sweeps.py", "tests/tune_jobs/execution/test_signals.py",
    ),
    "the same, once and twice, to commands: importing, drawing, reading images, training, pretraining": (
        "tests/handclip_core/test_signals_to_commands.py", "tests/handclip_core/test_signals.py",
    ),
    "a file of a run, gallery, data folder, sweep or of weights, damaged, for each command that reads it": (
        "tests/bad_inputs/test_damage.py",
    ),
    "a journal of a whole sweep damaged, up to 200 times a test; notes with a payload": (
        "tests/tune_jobs/test_damaged_journals.py", "tests/tune_jobs/test_payloads.py",
    ),
    "workers, nodes and drivers killed, frozen, drained, on several nodes": (
        "tests/cluster/test_multi_node.py", "tests/cluster/test_notices.py",
    ),
}  # fmt: skip
INPUTS: dict[str, tuple[str, ...]] = {
    "a path that cannot be used, for each argument of each command": ("tests/bad_inputs/test_paths.py",),
    "a value, document or option that is wrong, by the command that reads it": (
        "tests/bad_inputs/test_values.py", "tests/bad_inputs/test_documents.py",
    ),
}  # fmt: skip


def table(rows: dict[str, tuple[str, ...]], *, what: str) -> str:
    """The rows with the number of tests in their files, and the sum."""
    found = _tests_in((*FAULTS.values(), *INPUTS.values()))
    counts = {file: found[file] for files in rows.values() for file in files}
    lines = [f"| {what} | tests | in |", "|---|---:|---|"]
    for words, files in rows.items():
        names = ", ".join(f"`{file.removeprefix('tests/')}`" for file in files)
        lines.append(f"| {words} | {sum(counts[file] for file in files)} | {names} |")
    return "\n".join([*lines, f"| in all | {sum(counts.values())} | |"])


@functools.cache
def _tests_in(rows: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    """How many tests pytest finds in each of the files of ``rows``."""
    files = sorted({file for row in rows for file in row})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = dict(line.split(": ") for line in done.stdout.splitlines() if line.startswith("tests/"))
    return {file: int(found[file]) for file in files}


if __name__ == "__main__":
    print(table(FAULTS, what="fault x moment"), table(INPUTS, what="bad input"), sep="\n\n")
