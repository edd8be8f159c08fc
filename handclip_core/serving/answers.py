"""Answers about images as files: JSON, CSV and a contact sheet."""

from pathlib import Path

import pandas as pd

from handclip_core.runs.run_folder import write_json, write_text
from handclip_core.serving.identify import Answer
from handclip_core.serving.sheet import contact_sheet

JSON, CSV, SHEET = "identified.json", "identified.csv", "sheet.jpg"


def write_answer(answer: Answer, folder: Path) -> None:
    """Write JSON, CSV with a row a query and candidate, and the contact sheet into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JSON, answer.values())
    write_text(folder / CSV, pd.DataFrame(answer.rows()).to_csv(index=False))
    contact_sheet(answer, folder / SHEET)
