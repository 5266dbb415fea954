package cprecover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kubeadmConfig = `apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.10.17.210, bindPort: 6443}
nodeRegistration: {name: cp1}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.2
etcd: {local: {dataDir: /var/lib/etcd}}
`

// kubeadm installs one below the root that writes the manifest of an etcd which joins a cluster, whatever it is asked.
func kubeadm(t *testing.T, root string) {
	t.Helper()
	joining := filepath.Join(root, "joining.yaml")
	text := strings.Replace(manifest, "[etcd, ", "[etcd, --initial-cluster-state=existing, ", 1)
	if err := os.WriteFile(joining, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "usr/bin")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = version ] && exec echo v1.36.2\nexec /bin/cp '%s' \"$KUBEADM_INIT_DRYRUN_DIR/$3.yaml\"\n", joining)
	if err := os.WriteFile(filepath.Join(folder, "kubeadm"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestRegenerationWithWhatTheCallerKnows(t *testing.T) {
	node, file := site(t)
	kubeadm(t, filepath.Join(filepath.Dir(file), "../../.."))
	ctx := context.Background()
	outcome := func(options RegenerateOptions) string {
		t.Helper()
		plan, err := node.PlanRegeneration(ctx, Etcd, options)
		if err != nil {
			t.Fatal(err)
		}
		defer plan.Close()
		text, err := plan.JSON()
		is(t, "regeneration-plan", text, err)
		var read struct {
			Checks []struct{ Name, Outcome string }
		}
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		for _, check := range read.Checks {
			if check.Name == "etcd-data" {
				return check.Outcome
			}
		}
		t.Fatalf("no check of the data: %s", text)
		return ""
	}
	_, err := node.PlanRegeneration(ctx, Etcd, RegenerateOptions{})
	var e *Error
	if !errors.Is(err, ErrMissing) || !errors.As(err, &e) || !strings.Contains(e.Message, "nodeRegistration.name") {
		t.Fatalf("have %v", err)
	}
	// What the message names, as a caller finds it: a name, its reason in brackets.
	_, names, _ := strings.Cut(e.Message, ": ")
	var assume []string
	for _, entry := range strings.Split(names, "; ") {
		name, _, _ := strings.Cut(entry, " (")
		assume = append(assume, name)
	}
	if have := outcome(RegenerateOptions{AssumeDefaults: assume}); have != "refuse" {
		t.Fatalf("an etcd without data: %s", have)
	}
	config := []byte(kubeadmConfig)
	if have := outcome(RegenerateOptions{Config: config}); have != "refuse" {
		t.Fatalf("an etcd without data: %s", have)
	}
	if have := outcome(RegenerateOptions{Config: config, EtcdMemberJustAdded: true}); have != "warn" {
		t.Fatalf("an etcd that was just added: %s", have)
	}
	if _, err := node.PlanRegeneration(ctx, Etcd, RegenerateOptions{Config: []byte("kind: [")}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("no config: %v", err)
	}
	if _, err := node.PlanRegeneration(ctx, Etcd, RegenerateOptions{Config: make([]byte, 1<<20+1)}); !errors.Is(err, ErrLimit) {
		t.Fatalf("a config without end: %v", err)
	}
}
