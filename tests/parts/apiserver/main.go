// The kube-apiserver as its own main has it, but for what only a release needs. A module that has
// Kubernetes as its dependency has to say where its parts are: go.mod replaces each of them, since
// Kubernetes itself finds them beside it.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
