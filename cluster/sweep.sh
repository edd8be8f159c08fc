#!/usr/bin/env bash
# Go on with the sweep NAME under STORAGE, or start it where there is none: the entrypoint of jobs that may be run again.
# STORAGE is a folder that all nodes share, or a place in a bucket like s3://BUCKET/runs.
set -euo pipefail

if [ "$#" -lt 3 ]; then
  echo "usage: cluster/sweep.sh SETTINGS.yaml NAME STORAGE [OPTION...]" >&2
  exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

sweep() {
  python tune_jobs/sweep.py "${arguments[@]}" "$@"
}

arguments=("$1" --name "$2" --set "storage=$3" "${@:4}")
echo "looking for sweep '$2' under $3 to go on with"
status=0
sweep --resume || status=$?
# 2: there is nothing to resume, or the settings are wrong, which the start below says again.
if [ "$status" -eq 2 ]; then
  echo "starting sweep '$2' under $3"
  status=0
  sweep || status=$?
fi
exit "$status"
