#!/usr/bin/env bash
# Ask the cloud every few seconds whether it takes this spot machine away, and if so let trials leave it:
#   cluster/notices.sh aws|gcp
# It ends when there has been a notice. A second one on the same machine ends at once.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
metadata="${HANDCLIP_METADATA:-http://169.254.169.254}"
every_s="${HANDCLIP_NOTICE_EVERY_S:-3}"

ask() {
  curl --silent --fail --max-time 5 "$@"
}

# Both print the seconds that are left, and fail where there is no notice.
aws() {
  local token notice at
  token="$(ask --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$metadata/latest/api/token")" || return 1
  notice="$(ask --header "X-aws-ec2-metadata-token: $token" "$metadata/latest/meta-data/spot/instance-action")" || return 1
  at="$(sed -n 's/.*"time" *: *"\([^"]*\)".*/\1/p' <<< "$notice")"
  at="$(date --date "$at" +%s)" || return 1
  echo $((at > $(date +%s) ? at - $(date +%s) : 0))
}

gcp() {
  [ "$(ask --header 'Metadata-Flavor: Google' "$metadata/computeMetadata/v1/instance/preempted")" = TRUE ] || return 1
  # Google gives 30 s, and some have gone by.
  echo 25
}

case "${1:-}" in
  aws | gcp) cloud="$1" ;;
  *)
    echo "usage: cluster/notices.sh aws|gcp" >&2
    exit 2
    ;;
esac
exec 9> "${TMPDIR:-/tmp}/handclip-notices-$(id -u)"
flock --nonblock 9 || exit 0
until seconds="$("$cloud")"; do
  sleep "$every_s"
done
echo "notice: this machine goes in $seconds s"
exec "$here/drain.sh" "$seconds"
