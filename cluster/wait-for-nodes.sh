#!/usr/bin/env bash
# Wait until NODES nodes of the cluster behind the dashboard have joined: cluster/wait-for-nodes.sh DASHBOARD NODES SECONDS.
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
  sleep 0.5
done
