#!/usr/bin/env bash
# One node of the cluster that sweep.sbatch starts, until it is told to end; the arguments go to `ray start`.
set -euo pipefail
# shellcheck source=cluster/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/../env.sh"

# Short and of this node alone: the names of Ray's sockets are limited, and a home folder may be shared.
folder="$(mktemp -d "/tmp/hc-${SLURM_JOB_ID:-0}-XXXX")"
trap 'rm -rf "$folder"' EXIT

# Slurm hides the GPUs of others, so Ray counts those of this job; of processors it would count all.
# With job control: without, what runs in the background ignores SIGINT, and so would the jobs that Ray starts.
set -m
ray start "$@" --block --temp-dir="$folder" --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --dashboard-agent-listen-port=0 &
node=$!
set +m
trap 'kill "$node" 2> /dev/null || true' TERM INT
# A signal ends the first `wait`, the node's own end the loop.
while kill -0 "$node" 2> /dev/null; do
  wait "$node" || true
done
