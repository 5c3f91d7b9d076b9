#!/usr/bin/env bash
# Runs the SQS server in the foreground on 127.0.0.1:PORT. It starts with no queues (CreateQueue makes
# them), keeps everything in memory, and ends on SIGTERM or SIGINT.
#
# usage: tests/parts/sqs/run.sh PORT [java option…]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parts=${SPANHOOK_PARTS:-${XDG_CACHE_HOME:-$HOME/.cache}/spanhook/parts}
port=${1:?usage: run.sh PORT [java option…]}
shift

# Made by install.sh. Another Java than the one that made it ignores it.
archive="$parts/sqs/classes.jsa"
if [ -e "$archive" ]; then set -- "-XX:SharedArchiveFile=$archive" "$@"; fi

# The whole compiler would cost more than it gives in a test's few seconds.
exec java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto "$@" \
  -Dconfig.file="$here/elasticmq.conf" -Dport="$port" \
  -cp "$parts/sqs/lib/*" org.elasticmq.server.Main
