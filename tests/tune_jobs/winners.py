"""What a sweep's winner leaves behind, made up: embeddings of the first gallery split."""

import json
from pathlib import Path

import numpy as np

from handclip_core.data.sources import open_data
from handclip_core.paths import cache_root
from tests.conftest import TINY_DATA
from tune_jobs.config.settings import SweepSettings
from tune_jobs.reporting.winner_sections import GALLERY, QUERY, Winner

SETTINGS = SweepSettings(data=TINY_DATA)


def write_winner(folder: Path) -> Winner:
    """A winner with made-up embeddings: identities, and much noise."""
    prepared = open_data(TINY_DATA, cache=cache_root())
    split = prepared.protocol.draws["val"][0]
    rows = {QUERY: sorted(sum(split.query.values(), ())), GALLERY: sorted(sum(split.gallery.values(), ()))}
    random = np.random.default_rng(0)
    people = {name: random.normal(size=8) for name in prepared.manifest["identity"]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in rows.items():
        found = np.stack([people[prepared.manifest["identity"][row]] + random.normal(size=8) for row in wanted])
        np.save(folder / name, (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32))
    (folder / "metrics.json").write_text(json.dumps({"embedding_rows": rows}))
    return Winner(folder, SETTINGS)
