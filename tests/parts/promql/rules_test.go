// Reads rules as Prometheus does, and runs a script of samples and expected answers on its engine.
package promql

import (
	"log/slog"
	"os"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

func TestRules(t *testing.T) {
	_, errors := rulefmt.ParseFile(os.Getenv("RULES"), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errors {
		t.Error(err)
	}
}

func TestScript(t *testing.T) {
	script, err := os.ReadFile(os.Getenv("SCRIPT"))
	if err != nil {
		t.Fatal(err)
	}
	promqltest.RunTest(t, string(script), promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery))
}
