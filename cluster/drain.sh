#!/usr/bin/env bash
# This machine goes in so many seconds: tell the cluster, and wait until its trials have saved their state and left.
#   cluster/drain.sh SECONDS
set -euo pipefail

if [[ ! "${1:-}" =~ ^[0-9]+$ ]]; then
  echo "usage: cluster/drain.sh SECONDS" >&2
  exit 2
fi
# shellcheck source-path=SCRIPTDIR source=env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# A process that runs trials says so in its title.
training() {
  grep --quiet --no-messages --text '^ray::HandTrial' /proc/[0-9]*/cmdline
}

end=$((SECONDS + $1))
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message 'the machine is about to go' \
  --deadline-remaining-seconds "$1"
echo "the cluster knows that this machine goes in $1 s"
while [ "$SECONDS" -lt "$end" ] && training; do
  sleep 0.5
done
