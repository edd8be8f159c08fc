#!/usr/bin/env bash
# Wait until so many nodes have joined the cluster behind a dashboard, as long as the processes that start them live:
#   cluster/wait-for-nodes.sh DASHBOARD NODES SECONDS PID...
set -euo pipefail

alive() {
  ray list nodes --address "$1" --filter state=ALIVE --format json 2> /dev/null | grep -o '"node_id"' | wc -l
}

end=$((SECONDS + $3))
until found="$(alive "$1")" && [ "$found" -ge "$2" ]; do
  if [ "$SECONDS" -ge "$end" ]; then
    echo "error: $found of $2 nodes have joined within $3 s" >&2
    exit 1
  fi
  for process in "${@:4}"; do
    if ! kill -0 "$process" 2> /dev/null; then
      echo "error: a node has ended before it joined" >&2
      exit 1
    fi
  done
  sleep 0.5
done
