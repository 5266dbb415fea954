package cprecover

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// silentRuntime lets a container runtime take connections and never answer.
func silentRuntime(t *testing.T, manifest string) {
	t.Helper()
	socket := filepath.Join(manifest, "../../../../run/containerd/containerd.sock")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
}

func TestADeadlineThatPassesIsExceeded(t *testing.T) {
	quiet, _ := site(t)
	node, file := site(t)
	silentRuntime(t, file)
	soon := func() context.Context {
		// Not a whole number of milliseconds: what is left must not be cut.
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond+700*time.Microsecond)
		t.Cleanup(cancel)
		return ctx
	}
	for i := 0; i < 5; i++ {
		err := quiet.Watch(soon(), nil, WatchOptions{}, func(json.RawMessage) bool { return true })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("watch: %v", err)
		}
		if _, err := node.Pods(soon()); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("pods: %v", err)
		}
		report, err := node.Recover(soon(), nil, RecoverOptions{DryRun: true})
		if !errors.Is(err, context.DeadlineExceeded) || report == nil || report.Healthy() {
			t.Fatalf("recover: %v, %v", report, err)
		}
	}
}
