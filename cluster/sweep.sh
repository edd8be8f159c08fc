#!/usr/bin/env bash
# Go on with the sweep NAME under STORAGE, or start it where there is none: the entrypoint of jobs that may be run again.
set -euo pipefail

if [ "$#" -lt 3 ]; then
  echo "usage: cluster/sweep.sh SETTINGS.yaml NAME STORAGE [OPTION...]" >&2
  exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
arguments=("$1" --name "$2" --set "storage=$3" "${@:4}")

echo "looking for sweep '$2' under $3 to go on with"
status=0
python tune_jobs/sweep.py "${arguments[@]}" --resume || status=$?
# 2: there is nothing to resume, or the settings are wrong, which the start below says again.
if [ "$status" -ne 2 ]; then
  exit "$status"
fi
echo "starting sweep '$2' under $3"
exec python tune_jobs/sweep.py "${arguments[@]}"
