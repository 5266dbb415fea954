package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"unsafe"
)

// Regeneration is manifests that kubeadm rendered into a staging folder, compared and checked.
type Regeneration struct{ cell *cell }

// Acceptance is what the caller accepts of regenerated manifests; the zero value is the strictest.
type Acceptance struct {
	// Changes agrees to manifests that need a review.
	Changes bool
	// WithoutComparison accepts a component that no known good manifest can be compared with.
	WithoutComparison bool
}

// RegenerateOptions is what the caller knows of the node's kubeadm config; the zero value is nothing.
type RegenerateOptions struct {
	// Config is a kubeadm config (InitConfiguration, ClusterConfiguration; YAML, 1 MiB at most) that is believed
	// before all that is found on the node and in backups.
	Config []byte
	// AssumeDefaults names unknown values for which kubeadm's defaults are taken, knowingly, as ErrMissing names
	// them: "scheduler.extraArgs".
	AssumeDefaults []string
	// EtcdMemberJustAdded says that a healthy member has just removed this etcd member and added it again: it may
	// start without data.
	EtcdMemberJustAdded bool
}

// PlanRegeneration renders manifests with the node's kubeadm; nothing live is touched. Values that are not known
// are ErrMissing, whose message names them.
func (n *Node) PlanRegeneration(ctx context.Context, components Components, options RegenerateOptions) (*Regeneration, error) {
	config, configLen := borrowed(options.Config)
	assumed, assumedLen := chars(strings.Join(options.AssumeDefaults, "\n"))
	flags := flag(options.EtcdMemberJustAdded, C.CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED)
	var plan *C.cpr_regeneration
	if err := n.make(ctx, func(node *C.cpr_node, call C.go_call, err **C.cpr_error) C.cpr_status {
		return C.go_regenerate_plan(node, C.uint64_t(components), flags, config, configLen, assumed, assumedLen, call, &plan, err)
	}); err != nil {
		return nil, err
	}
	free := func(ptr unsafe.Pointer) { C.cpr_regeneration_free((*C.cpr_regeneration)(ptr)) }
	r := &Regeneration{newCell(unsafe.Pointer(plan), free)}
	closeWhenUnreachable(r, r.cell)
	return r, nil
}

// JSON returns origins, differences and checks.
func (r *Regeneration) JSON() (json.RawMessage, error) {
	defer runtime.KeepAlive(r)
	return r.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_regeneration_json((*C.cpr_regeneration)(ptr), buf, err)
	})
}

// Close frees the regeneration.
func (r *Regeneration) Close() error {
	r.cell.close()
	runtime.KeepAlive(r)
	return nil
}

// ApplyRegeneration installs regenerated manifests, all or none; what stood there is snapshotted first.
func (n *Node) ApplyRegeneration(ctx context.Context, plan *Regeneration, accept Acceptance) (json.RawMessage, error) {
	defer runtime.KeepAlive(plan)
	ptr, err := plan.cell.begin()
	if err != nil {
		return nil, err
	}
	defer plan.cell.end()
	flags := flag(accept.Changes, C.CPR_ACCEPT_REGENERATED_CHANGES) |
		flag(accept.WithoutComparison, C.CPR_ACCEPT_WITHOUT_COMPARISON)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_regenerate_apply(node, (*C.cpr_regeneration)(ptr), flags, call, buf, err)
	})
}
