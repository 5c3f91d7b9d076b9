#!/usr/bin/env bash
# Installs the real parts that the end-to-end tests run against, through ordinary package clients.
# A part whose stamp holds the same version is left alone, so a second run takes no time.
#
# usage: tests/parts/install.sh [collector] [sqs] [cargo-lambda] [otel-cli]
set -euo pipefail

COLLECTOR=v0.162.0          # the builder and every component in collector/builder.yaml
CARGO_LAMBDA=1.9.2
ZIG=0.17.0                  # cargo-lambda links arm64 with it
OTEL_CLI=v0.4.5

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parts=${SPANHOOK_PARTS:-${XDG_CACHE_HOME:-$HOME/.cache}/spanhook/parts}
mkdir -p "$parts/bin" "$parts/stamps"

# up_to_date PART WHAT: whether PART was installed from the same WHAT.
up_to_date() { [ "$(cat "$parts/stamps/$1" 2>/dev/null)" = "$2" ]; }
done_with() { printf '%s' "$2" > "$parts/stamps/$1"; }

collector() {
  local what; what="$COLLECTOR $(cksum < "$here/collector/builder.yaml")"
  up_to_date collector "$what" && return
  GOBIN="$parts/bin" go install "go.opentelemetry.io/collector/cmd/builder@$COLLECTOR"
  local build; build=$(mktemp -d)
  sed "s/@VERSION@/$COLLECTOR/; s|@OUTPUT@|$build|" "$here/collector/builder.yaml" > "$build.yaml"
  # The builder's own `go mod tidy` also wants what only the tests of its components need, and not
  # every module proxy keeps all of that. The build itself asks for less.
  "$parts/bin/builder" --skip-get-modules --skip-compilation --config "$build.yaml"
  (cd "$build" && go mod init otelcol &&
    go get "go.opentelemetry.io/collector/otelcol@$COLLECTOR" \
      $(sed -n 's/.*gomod: \([^ ]*\) \(.*\)/\1@\2/p' "$build.yaml") &&
    go build -mod=mod -trimpath -ldflags='-s -w' -o "$parts/bin/otelcol" .)
  rm -rf "$build" "$build.yaml"
  done_with collector "$what"
}

sqs() {
  local what; what=$(cksum < "$here/sqs/pom.xml")
  up_to_date sqs "$what" && return
  mvn --batch-mode --quiet --file "$here/sqs/pom.xml" dependency:copy-dependencies \
    "-DoutputDirectory=$parts/elasticmq"
  done_with sqs "$what"
}

cargo-lambda() {
  local what="$CARGO_LAMBDA $ZIG"
  up_to_date cargo-lambda "$what" && return
  python3 -m venv "$parts/cargo-lambda"
  "$parts/cargo-lambda/bin/pip" install --quiet "cargo-lambda==$CARGO_LAMBDA" "ziglang==$ZIG"
  # cargo finds the subcommand by its name, and the subcommand finds zig beside its own python.
  printf '#!/bin/sh\nPATH="%s:$PATH" exec "%s" "$@"\n' \
    "$parts/cargo-lambda/bin" "$parts/cargo-lambda/bin/cargo-lambda" > "$parts/bin/cargo-lambda"
  chmod +x "$parts/bin/cargo-lambda"
  done_with cargo-lambda "$what"
}

otel-cli() {
  up_to_date otel-cli "$OTEL_CLI" && return
  # `go install` also asks for newer versions, which not every module proxy keeps for this module.
  local source
  source=$(cd "$parts" && go mod download -json "github.com/equinix-labs/otel-cli@$OTEL_CLI" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
  (cd "$source" && go build -mod=mod -trimpath -o "$parts/bin/otel-cli" .)
  done_with otel-cli "$OTEL_CLI"
}

[ $# -gt 0 ] || set -- collector sqs cargo-lambda otel-cli
for part in "$@"; do
  began=$SECONDS
  "$part"
  echo "part $part: ready ($((SECONDS - began)) s)"
done
