#!/usr/bin/env bash
# Waits for a cloud's notice that this spot node will be taken away, and tells Ray: from then on nothing
# new is sent to the node, and what it works on is finished if it can be (cluster/README.md, "Spot nodes").
#   spot.sh [--node-id ID] &          further words go to `ray drain-node`
# On nodes that are not taken away it asks the metadata server every five seconds, and does nothing else.
set -euo pipefail

aws=${CONNOTE_METADATA:-http://169.254.169.254}
gcp=${CONNOTE_METADATA:-http://metadata.google.internal}

ask() { wget --quiet --output-document=- --tries=1 --timeout=2 "$@" 2>/dev/null; }

# AWS gives notice of two minutes, Google Cloud of thirty seconds; a few of them are Ray's to go down.
seconds_left() {
  local token
  if token=$(ask --method=PUT --header="X-aws-ec2-metadata-token-ttl-seconds: 60" "$aws/latest/api/token") &&
    ask --header="X-aws-ec2-metadata-token: $token" "$aws/latest/meta-data/spot/instance-action" >/dev/null; then
    echo 110
  elif [[ $(ask --header="Metadata-Flavor: Google" "$gcp/computeMetadata/v1/instance/preempted") == TRUE ]]; then
    echo 25
  else
    return 1
  fi
}

until left=$(seconds_left); do sleep "${CONNOTE_METADATA_PAUSE:-5}"; done
echo "notice: this node is taken away in $left seconds"
exec ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "spot notice" \
  --deadline-remaining-seconds "$left" "$@"
