#!/usr/bin/env bash
# Loads `spanhook serve` over HTTP on loopback with wrk (Debian's package `wrk`): durable
# acknowledgement at 1 and 32 connections, the traceparent endpoint, memory, start-up.
#
# usage: benches/load.sh [path of the release binary]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=${1:-${CARGO_TARGET_DIR:-target}/release/spanhook}
command -v wrk >/dev/null || { echo "install wrk first: apt-get install wrk" >&2; exit 1; }

work=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
secret=a-secret-of-the-load-test
body=$(tr -d '\n' < events/circleci/job-completed-unit-tests.json | sed 's/  */ /g')
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "$secret" -r | cut -d' ' -f1)
printf '%s' "$body" > "$work/body.json"
cat > "$work/post.lua" <<LUA
wrk.method = "POST"
wrk.headers["circleci-signature"] = "v1=$signature"
wrk.headers["content-type"] = "application/json"
local file = io.open("$work/body.json"); wrk.body = file:read("*a"); file:close()
LUA

# Nobody listens at the endpoint: what is measured is the queue, which grows.
CIRCLECI_HOOK_SECRET=$secret LOG_LEVEL=off OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 \
  "$binary" serve --listen 127.0.0.1:0 --data "$work/data" > "$work/out" &
pid=$!
for _ in $(seq 100); do grep -q listens "$work/out" && break; sleep 0.05; done
url=$(sed -n 's/.*listens on //p' "$work/out")

run() { wrk --latency -t1 -c"$1" -d"${SECONDS_EACH:-5}s" "${@:2}" | grep -E '50%|99%|Requests/sec|Non-2xx' | tr -s ' \n' ' '; echo; }
for connections in 1 8 32 64; do
  echo -n "durable POST, $connections connections: "
  run "$connections" -s "$work/post.lua" "$url/circleci"
done
echo "resident memory: $(awk '/VmRSS|VmHWM/ {printf "%s %d MB  ", $1, $2 / 1024}' "/proc/$pid/status")"
job=/traceparent/circleci/cedf175c-c537-49f8-9b5c-95892f0b2407/3f6a7c4a-0bb6-463a-bd0c-3d5e0b1b1d34
for connections in 1 32; do
  echo -n "GET traceparent, $connections connections: "
  run "$connections" "$url$job"
done
