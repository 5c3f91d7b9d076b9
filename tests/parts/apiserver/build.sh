#!/usr/bin/env bash
# Builds kube-apiserver 1.20 from Debian's source package, and unpacks etcd beside it. Nothing is
# installed on the machine: lists, packages and the toolchain stay below WORK.
#
# Of later releases Debian has only kubectl's sources.
#
# usage: build.sh WORK BIN KUBERNETES   (2.5 GB in WORK, which can be removed afterwards)
# needs: a Debian with its archive keyring; make, tar
set -euo pipefail
kubernetes=$3
mkdir -p "$1"/{sources,lists/partial,cache/archives/partial,root,reflect2} "$2"
work=$(cd "$1" && pwd) bin=$(cd "$2" && pwd)
cd "$work"

# The mirror that this system uses, with the sources of the release that has them.
mirror=$(cat /etc/apt/sources.list.d/*.sources | awk '/^URIs:/ { print $2; exit }')
cat > sources/bookworm.sources << EOF
Types: deb deb-src
URIs: $mirror
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/sources"
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
"${apt[@]}" source --download-only kubernetes
"${apt[@]}" download golang-1.19-go golang-1.19-src etcd-server rsync libpopt0 libxxhash0 \
  golang-github-modern-go-reflect2-dev
for package in golang-1.19*.deb etcd-*.deb rsync*.deb lib*.deb; do dpkg -x "$package" root; done
dpkg -x golang-github-modern-go-reflect2-dev*.deb reflect2
tar xzf kubernetes_*.orig.tar.gz
cd "kubernetes-$kubernetes" # fails where Debian has gone on to another release

# It carries reflect2 1.0.1, which crashes with Go 1.18 and later.
vendored=vendor/github.com/modern-go/reflect2
rm "$vendored"/*.{go,s}
cp "$work"/reflect2/usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} "$vendored/"
rm -f "$vendored"/*_test.go

mkdir -p .go/src/k8s.io
ln -sfn ../../.. .go/src/k8s.io/kubernetes
export GOROOT=$work/root/usr/lib/go-1.19 GOPATH=$PWD/.go GOCACHE=$work/go-cache GOPROXY=off GOFLAGS=-p=2 CGO_ENABLED=0
export PATH=$GOROOT/bin:$PATH:$work/root/usr/bin
LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH
IFS=. read -r major minor _ <<< "$kubernetes"
export KUBE_GIT_VERSION=v$kubernetes KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=archive
export KUBE_GIT_MAJOR=$major KUBE_GIT_MINOR=$minor
make WHAT=cmd/kube-apiserver GOLDFLAGS='-s -w'
cp _output/bin/kube-apiserver "$work/root/usr/bin/etcd" "$bin/"
