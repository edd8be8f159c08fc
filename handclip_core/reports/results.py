"""What a report of runs is: text to read, and values for programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handclip_core.runs.run_folder import as_json


@dataclass(frozen=True)
class Report:
    """A measured run: ``text`` to read, ``values`` for programs."""

    text: str
    values: dict[str, Any]

    @property
    def json(self) -> str:
        """The values as strict JSON."""
        return as_json(self.values)


@dataclass(frozen=True)
class ComparisonTable:
    """Models side by side."""

    markdown: str
    csv: str

    def write(self, folder: Path) -> None:
        """Write ``comparison.md`` and ``comparison.csv``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.md").write_text(self.markdown, encoding="utf-8")
        (folder / "comparison.csv").write_text(self.csv, encoding="utf-8")
