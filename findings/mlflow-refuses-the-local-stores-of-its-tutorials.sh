#!/usr/bin/env bash
# mlflow-skinny 3.17.2: a tracking client alone refuses both kinds of a local store that need no server.
# One would guess: a `file:` folder, MLflow's oldest store, takes runs as ever; and a SQLite database, which the refusal of
# that folder recommends, can be used for tracking, since nothing here asks for a registry of models.
# Seen: `file:` raises MlflowException (the file store is in maintenance mode, move to a database such as sqlite:///...);
# `sqlite:` raises UnsupportedModelRegistryStoreURIException, which speaks of model registries. The whole package
# (`pip install mlflow`) takes the database. So the settings of this project name `mlflow`, not `mlflow-skinny`.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "mlflow-skinny==3.17.2"
cat >"$folder/run.py" <<'PYTHON'
import sys

import mlflow
from mlflow.tracking import MlflowClient

folder, said = sys.argv[1], {}
for uri in (f"file://{folder}/runs", f"sqlite:///{folder}/runs.db"):
    kind = uri.partition(":")[0]
    try:
        said[kind] = f"experiment {MlflowClient(tracking_uri=uri).create_experiment('hands')}"
    except Exception as error:
        said[kind] = f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"
    print(f"mlflow {mlflow.__version__}, {kind}: {said[kind]}")
same = said["file"].startswith("MlflowException") and "maintenance mode" in said["file"]
same = same and said["sqlite"].startswith("UnsupportedModelRegistryStoreURIException")
sys.exit(0 if same else "this has changed")
PYTHON
"$folder/venv/bin/python" "$folder/run.py" "$folder"
