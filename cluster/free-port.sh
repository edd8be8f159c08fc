#!/usr/bin/env bash
# Print a port that nothing listens to on this machine, outside the ranges of Ray's workers and of outgoing connections.
set -euo pipefail

while
  port=$((20000 + RANDOM % 10000))
  (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null
do :; done
echo "$port"
