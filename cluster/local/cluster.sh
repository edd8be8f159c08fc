#!/usr/bin/env bash
# Several Ray nodes on this machine, to try a cluster out: cluster/local/cluster.sh start [NODES] | env | stop.
# The folder HANDCLIP_LOCAL, or /tmp/handclip-<user id>, holds the token, the process ids, logs and all that Ray writes.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# shellcheck source=cluster/env.sh
source "$root/cluster/env.sh"
folder="${HANDCLIP_LOCAL:-/tmp/handclip-$UID}"
cpus="${HANDCLIP_LOCAL_CPUS:-1}"
export RAY_AUTH_TOKEN_PATH="$folder/token" RAY_TMPDIR="$folder"
unset RAY_AUTH_TOKEN RAY_ADDRESS

usage() {
  echo "usage: cluster/local/cluster.sh start [NODES] | env | stop" >&2
  exit 2
}

fail() {
  echo "error: $1" >&2
  exit 1
}

# Whether the process still is the one that was started here: numbers are used again.
ours() { [[ "$(ps -ww -o command= -p "$1" 2> /dev/null)" == *"--temp-dir=$folder/"* ]]; }

# run_node NAME OPTION...: a node in the background, its process id kept.
run_node() {
  local name="$1"
  shift
  # With job control: without, what runs in the background ignores SIGINT, and so would the jobs that Ray starts.
  set -m
  nohup ray start "$@" --block --num-cpus="$cpus" --temp-dir="$folder/$name" --object-store-memory=134217728 \
    --dashboard-agent-listen-port=0 > "$folder/$name.log" 2>&1 &
  set +m
  echo "$!" >> "$folder/pids"
}

start() {
  local nodes="$1" port dashboard
  [[ "$nodes" =~ ^[1-9][0-9]*$ ]] || usage
  command -v ray > /dev/null || fail "no 'ray' here: run 'make setup' first"
  [ ! -e "$folder" ] || fail "$folder exists: run 'cluster/local/cluster.sh stop' first"
  (umask 077 && mkdir "$folder" && : > "$folder/pids" && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$folder/token")
  trap 'stop; fail "the cluster did not come up"' ERR
  port="$("$root/cluster/free-port.sh")" dashboard="$("$root/cluster/free-port.sh")"
  echo "$port $dashboard" > "$folder/ports"
  run_node head --head --node-ip-address=127.0.0.1 --port="$port" --dashboard-host=127.0.0.1 \
    --dashboard-port="$dashboard" --ray-client-server-port="$("$root/cluster/free-port.sh")"
  wait_for "$dashboard" 1
  for ((node = 2; node <= nodes; node++)); do
    run_node "node-$node" --address="127.0.0.1:$port" --node-ip-address=127.0.0.1
  done
  wait_for "$dashboard" "$nodes"
  echo "$nodes nodes of $cpus CPU; now type: eval \"\$(cluster/local/cluster.sh env)\""
}

# wait_for DASHBOARD NODES: until so many nodes have joined, at most five minutes.
wait_for() {
  local pids
  mapfile -t pids < "$folder/pids"
  "$root/cluster/wait-for-nodes.sh" "http://127.0.0.1:$1" "$2" 300 "${pids[@]}" || {
    tail -n 20 "$folder"/*.log >&2
    return 1
  }
}

print_environment() {
  [ -e "$folder/ports" ] || fail "no cluster in $folder: run 'cluster/local/cluster.sh start' first"
  read -r port dashboard < "$folder/ports"
  cat << EOF
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token
export RAY_ADDRESS=127.0.0.1:$port RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard
EOF
}

stop() {
  trap - ERR
  [ -e "$folder/pids" ] || fail "no cluster in $folder"
  local pids=() pid
  while read -r pid; do
    if ours "$pid"; then pids=("$pid" "${pids[@]}"); fi
  done < "$folder/pids"
  for pid in "${pids[@]}"; do kill "$pid"; done
  for pid in "${pids[@]}"; do
    for ((try = 0; try < 120; try++)); do ours "$pid" || break; sleep 0.5; done
    if ours "$pid"; then fail "process $pid does not end; its log is in $folder"; fi
  done
  # Ray's agents end a moment after what they belong to, and write until then.
  local left
  for ((try = 0; try < 20; try++)); do left=$(rm -rf "$folder" 2>&1) && break; sleep 0.5; done
  if [ -e "$folder" ]; then fail "$left"; fi
}

case "${1:-}" in
  start) start "${2:-2}" ;;
  env) print_environment ;;
  stop) stop ;;
  *) usage ;;
esac
