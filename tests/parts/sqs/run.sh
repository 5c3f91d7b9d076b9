#!/usr/bin/env bash
# Runs an SQS server in the foreground on 127.0.0.1:PORT. Queues are made by CreateQueue.
set -euo pipefail
parts=${SPANHOOK_PARTS:-${XDG_CACHE_HOME:-$HOME/.cache}/spanhook/parts}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
  -Dconfig.file="$here/elasticmq.conf" -Dport="$1" \
  -cp "$parts/elasticmq/*" org.elasticmq.server.Main
