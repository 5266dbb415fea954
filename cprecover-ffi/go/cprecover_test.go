package cprecover

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const manifest = `apiVersion: v1
kind: Pod
metadata: {name: etcd, namespace: kube-system, labels: {component: etcd, tier: control-plane}}
spec:
  hostNetwork: true
  containers:
  - name: etcd
    image: registry.k8s.io/etcd:3.5.15-0
    command: [etcd, --listen-peer-urls=https://127.0.0.1:1, --data-dir=/var/lib/etcd]
`

// site makes a root with one manifest and opens it.
func site(t *testing.T, options ...Option) (*Node, string) {
	t.Helper()
	root := t.TempDir()
	folder := filepath.Join(root, "etc/kubernetes/manifests")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "etcd.yaml")
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	node, err := Open(append(options, WithRoot(root))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return node, file
}

// listening returns a port that this process listens on: looking it up logs a line.
func listening(t *testing.T) Port {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return Port{Number: uint16(listener.Addr().(*net.TCPAddr).Port)}
}

// is fails unless the JSON is of a schema.
func is(t *testing.T, schema string, text json.RawMessage, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	var top struct{ Schema string }
	if err := json.Unmarshal(text, &top); err != nil || top.Schema != "cprecover.dev/"+schema+"/v1" {
		t.Fatalf("want %s, have %v: %.200s", schema, err, text)
	}
}

func TestHealth(t *testing.T) {
	body := []byte("[+]ping ok\n[-]etcd failed: reason withheld\nhealthz check failed\n")
	text, err := ParseHealth(500, body)
	is(t, "health", text, err)
	brief, err := BriefHealth(0, body)
	if want := (Health{HealthUnhealthy, 2, 1, true}); err != nil || brief != want {
		t.Fatalf("have %+v, %v", brief, err)
	}
	if brief, err := BriefHealth(0, nil); err != nil || brief.Verdict != HealthUnknown {
		t.Fatalf("empty: %+v, %v", brief, err)
	}
	if _, err := ParseHealth(-1, body); !errors.Is(err, ErrArgument) {
		t.Fatalf("have %v", err)
	}
}

func TestErrorsAreOfAKind(t *testing.T) {
	_, err := Open(WithRoot("relative"))
	var e *Error
	if !errors.Is(err, ErrInvalid) || errors.Is(err, ErrBusy) || !errors.As(err, &e) || !strings.Contains(e.Message, "relative") {
		t.Fatalf("have %v", err)
	}
	if _, err := LoadPolicy("/nonexistent/policy.wasm", PolicyOptions{}); !errors.Is(err, ErrNotFound) || !errors.Is(err, syscall.ENOENT) {
		t.Fatalf("have %v", err)
	}
	if ErrNotFound.Error() != "not-found" {
		t.Fatalf("have %s", ErrNotFound.Error())
	}
}

func TestBackupHoldAndRestore(t *testing.T) {
	node, file := site(t)
	ctx := context.Background()
	text, err := node.Backup(ctx, BackupOptions{Reason: "test"})
	is(t, "snapshot", text, err)
	text, err = node.Backups()
	is(t, "backup-list", text, err)
	text, err = node.VerifyBackup(ctx, "latest")
	is(t, "backup-report", text, err)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	text, err = node.Restore(ctx, "latest", RestoreOptions{DryRun: true})
	is(t, "restore", text, err)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Fatalf("a dry run wrote: %v", err)
	}
	text, err = node.Restore(ctx, "latest", RestoreOptions{Components: Etcd})
	is(t, "restore", text, err)
	if back, err := os.ReadFile(file); err != nil || string(back) != manifest {
		t.Fatalf("restored %v: %s", err, back)
	}
	text, err = node.Hold(ctx, "etcd", "test")
	is(t, "held", text, err)
	text, err = node.Held()
	is(t, "held", text, err)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Fatalf("held, but still there: %v", err)
	}
	text, err = node.Release(ctx, "etcd")
	is(t, "held", text, err)
	if _, err := node.Release(ctx, "etcd"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("released twice: %v", err)
	}
	if back, err := os.ReadFile(file); err != nil || string(back) != manifest {
		t.Fatalf("released %v: %s", err, back)
	}
}

func TestObservePlanAndDryRun(t *testing.T) {
	node, _ := site(t)
	ctx := context.Background()
	seen, err := node.Observe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	text, err := seen.JSON()
	is(t, "observation", text, err)
	text, err = seen.Diagnose()
	is(t, "diagnosis", text, err)
	policy, err := LoadPolicy("observe-only", PolicyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err = policy.JSON()
	is(t, "policy", text, err)
	plan, err := seen.Plan(policy)
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	policy.Close()
	if _, err := seen.Plan(policy); !errors.Is(err, ErrClosed) {
		t.Fatalf("a closed policy: %v", err)
	}
	text, err = plan.JSON()
	is(t, "plan", text, err)
	read, err := ReadPlan(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	changed := []byte(strings.Replace(string(text), `"digest":"`, `"digest":"0`, 1))
	if _, err := ReadPlan(changed, nil); err == nil {
		t.Fatal("a changed plan was read")
	}
	if report, err := node.Recover(ctx, nil, RecoverOptions{DryRun: true}); err != nil || report.Healthy() {
		t.Fatalf("have %+v, %v", report, err)
	}
	text, err = node.PortHolder(ctx, Port{Number: 1, Address: "127.0.0.1", WantedBy: Etcd})
	is(t, "port", text, err)
	if _, err := node.Terminate(ctx, Port{Number: 1}, Process{PID: 1, StartTicks: 1}, true); err == nil {
		t.Fatal("pid 1 holds no port")
	}
	if _, err := node.PlanRegeneration(ctx, 0, RegenerateOptions{}); !errors.Is(err, ErrArgument) {
		t.Fatalf("no components: %v", err)
	}
}

func TestWatch(t *testing.T) {
	node, _ := site(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var told []json.RawMessage
	err := node.Watch(ctx, nil, WatchOptions{Every: time.Second, SickAfter: 1}, func(event json.RawMessage) bool {
		told = append(told, event)
		return false
	})
	if err != nil || len(told) != 1 {
		t.Fatalf("have %d events, %v", len(told), err)
	}
	is(t, "event", told[0], nil)
	// A context that ends while the watch waits for the next look.
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	err = node.Watch(ctx, nil, WatchOptions{SickAfter: 1}, func(json.RawMessage) bool { cancel(); return true })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("have %v", err)
	}
	defer func() {
		if p := recover(); p != "mine" {
			t.Fatalf("have %v", p)
		}
	}()
	err = node.Watch(context.Background(), nil, WatchOptions{SickAfter: 1}, func(json.RawMessage) bool { panic("mine") })
	t.Fatalf("no panic, but %v", err)
}

func TestContextEndsCalls(t *testing.T) {
	node, file := site(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := node.Observe(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("have %v", err)
	}
	// Cancelled while it waits for a container runtime that takes connections and never answers.
	silentRuntime(t, file)
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	begun := time.Now()
	report, err := node.Recover(ctx, nil, RecoverOptions{DryRun: true})
	if !errors.Is(err, context.Canceled) || report == nil || report.State != "cancelled" {
		t.Fatalf("have %v, %v after %v", report, err, time.Since(begun))
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	if _, err := node.Backup(ctx, BackupOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("have %v", err)
	}
}

func TestCloseWaitsAndIsIdempotent(t *testing.T) {
	var once sync.Once
	inside, leave := make(chan struct{}), make(chan struct{})
	node, _ := site(t, WithLog(LevelTrace, func(Level, string, string) {
		once.Do(func() { close(inside); <-leave })
	}))
	called := make(chan error, 1)
	go func() {
		_, err := node.Terminate(context.Background(), listening(t), Process{PID: 1, StartTicks: 1}, true)
		called <- err
	}()
	select {
	case <-inside:
	case err := <-called:
		t.Fatalf("no log line: %v", err)
	}
	if _, err := node.Hold(context.Background(), "etcd", "x"); !errors.Is(err, ErrBusy) {
		t.Fatalf("a second exclusive call: %v", err)
	}
	closed := make(chan struct{})
	go func() { node.Close(); close(closed) }()
	select {
	case <-closed:
		t.Fatal("closed while a call ran")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	<-called
	<-closed
	if node.Close() != nil {
		t.Fatal("closing twice")
	}
	if _, err := node.Options(); !errors.Is(err, ErrClosed) {
		t.Fatalf("have %v", err)
	}
	if _, err := node.Observe(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("have %v", err)
	}
}

func TestAPanicOfTheLogArrives(t *testing.T) {
	node, _ := site(t, WithLog(LevelTrace, func(Level, string, string) { panic("mine") }))
	defer func() {
		if p := recover(); p != "mine" {
			t.Fatalf("have %v", p)
		}
		// The node is as good as before: nothing unwound through the library.
		if _, err := node.Options(); err != nil {
			t.Fatal(err)
		}
	}()
	_, err := node.PortHolder(context.Background(), listening(t))
	t.Fatalf("no panic, but %v", err)
}

func TestForgottenNodesAreFreed(t *testing.T) {
	var cells []*cell
	for i := 0; i < 100; i++ {
		node, err := Open(WithRoot(t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		cells = append(cells, node.cell)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		runtime.GC()
		open := 0
		for _, c := range cells {
			c.mu.Lock()
			if c.ptr != nil {
				open++
			}
			c.mu.Unlock()
		}
		// The compiler may keep the last one alive.
		if open <= 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of 100 nodes are not freed", open)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestManyGoroutines(t *testing.T) {
	node, _ := site(t)
	body := []byte("[+]ping ok\n[-]etcd failed\n")
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for j := 0; j < 1000; j++ {
				if brief, err := BriefHealth(0, body); err != nil || !brief.EtcdFailed {
					t.Errorf("have %+v, %v", brief, err)
					return
				}
				if _, err := node.Options(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	all.Wait()
}

func BenchmarkParseHealth(b *testing.B) {
	body := []byte("[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]poststarthook/start ok\nhealthz check failed\n")
	for i := 0; i < b.N; i++ {
		if _, err := ParseHealth(500, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBriefHealth(b *testing.B) {
	body := []byte("[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]poststarthook/start ok\nhealthz check failed\n")
	for i := 0; i < b.N; i++ {
		if _, err := BriefHealth(500, body); err != nil {
			b.Fatal(err)
		}
	}
}

func TestPodsBundleAndSnapshot(t *testing.T) {
	node, file := site(t)
	ctx := context.Background()
	if _, err := node.QuarantinePods(ctx); !errors.Is(err, ErrArgument) {
		t.Fatalf("no pod named: %v", err)
	}
	if _, err := node.QuarantineLeftoverPods(ctx); err == nil {
		t.Fatal("without a runtime nothing is known to be left over")
	}
	if _, err := node.Pods(ctx); err == nil {
		t.Fatal("without a runtime nothing is known of pods")
	}
	if _, err := node.UndoQuarantine(ctx, ""); !errors.Is(err, ErrNotFound) {
		t.Fatalf("no quarantine: %v", err)
	}
	to := filepath.Join(filepath.Dir(file), "../bundle.tar")
	text, err := node.SupportBundle(ctx, nil, to)
	is(t, "support-bundle", text, err)
	if _, err := node.SupportBundle(ctx, nil, to); !errors.Is(err, ErrAlreadyExists) {
		t.Fatalf("the bundle's file is there: %v", err)
	}
	if verdict, err := node.CheckEtcd(ctx, t.TempDir()); err != nil || !strings.Contains(string(verdict), `"state":"empty"`) {
		t.Fatalf("an empty folder: %s, %v", verdict, err)
	}
	if _, err := node.EtcdStatus(ctx); !errors.Is(err, ErrInvalid) {
		t.Fatalf("the manifest names no address of clients: %v", err)
	}
	if _, err := node.SnapshotEtcd(ctx, to); !errors.Is(err, ErrInvalid) {
		t.Fatalf("the manifest names no address of clients: %v", err)
	}
	if _, err := LoadPolicy("", PolicyOptions{}); !errors.Is(err, ErrArgument) {
		t.Fatalf("which policy: %v", err)
	}
}
