#!/usr/bin/env bash
# Runs an OpenSearch node in the foreground on 127.0.0.1:PORT. Everything that it writes is in FOLDER;
# it ends on SIGTERM or SIGINT.
#
# usage: tests/parts/opensearch/run.sh PORT FOLDER [java option…]
set -euo pipefail
parts=${SPANHOOK_PARTS:-${XDG_CACHE_HOME:-$HOME/.cache}/spanhook/parts}
usage="usage: run.sh PORT FOLDER [java option…]"
port=${1:?$usage} folder=${2:?$usage}
shift 2

# Made by install.sh. Another Java than the one that made it ignores it.
archive="$parts/opensearch/classes.jsa"
if [ -e "$archive" ]; then set -- "-XX:SharedArchiveFile=$archive" "$@"; fi

# The whole compiler would cost more than it gives in a test's few seconds.
exec java -Xms256m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto "$@" \
  -cp "$parts/opensearch/lib/*" Node "$port" "$folder"
