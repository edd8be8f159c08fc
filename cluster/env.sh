#!/usr/bin/env bash
# What every Ray process of this project runs with. Source it before `ray start`, and where you type ray commands.

# The environment that `make setup` made beside this folder, where there is one.
_handclip="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -x "$_handclip/.venv/bin/ray" ]; then
  export PATH="$_handclip/.venv/bin:$PATH"
fi
unset _handclip

# Without a token anybody who reaches a port of the cluster can run code on it.
export RAY_AUTH_MODE=token

# `ray job stop` lets a sweep save its trials. SIGINT, since `uv run` passes SIGTERM on to a process that has had its own,
# and the second one ends a sweep on the spot.
export RAY_JOB_STOP_SIGNAL=SIGINT
export RAY_JOB_STOP_WAIT_TIME_S=120

export RAY_USAGE_STATS_ENABLED=0
