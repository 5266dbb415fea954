package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"
	"unsafe"
)

// Observation is a node as it was seen at one moment.
type Observation struct{ cell *cell }

// Plan is what would be done, in order.
type Plan struct{ cell *cell }

// Report is what a recovery did.
type Report struct {
	// State is how it ended: "healthy" when the node was verified to be.
	State string
	// JSON is the whole report (cprecover.dev/recovery/v1).
	JSON json.RawMessage
}

// Healthy says whether the node was verified to be healthy in the end.
func (r *Report) Healthy() bool { return r.State == "healthy" }

// RecoverOptions is what the caller agrees to; the zero value is the default.
type RecoverOptions struct {
	// DryRun changes nothing.
	DryRun bool
	// AcceptRegeneratedChanges agrees to installing regenerated manifests that need a review.
	AcceptRegeneratedChanges bool
	// AcceptUnknownQuorum agrees to acting on an etcd member although the quorum is not known.
	AcceptUnknownQuorum bool
	// AcceptRenewedCertificates agrees to renewing certificates.
	AcceptRenewedCertificates bool
	// Settle is how long the node may take to become healthy after the last effect; 90 s when 0.
	Settle time.Duration
}

func (o RecoverOptions) flags() C.uint64_t {
	return flag(o.DryRun, C.CPR_DRY_RUN) |
		flag(o.AcceptRegeneratedChanges, C.CPR_ACCEPT_REGENERATED_CHANGES) |
		flag(o.AcceptUnknownQuorum, C.CPR_ACCEPT_UNKNOWN_QUORUM) |
		flag(o.AcceptRenewedCertificates, C.CPR_ACCEPT_RENEWED_CERTIFICATES)
}

func (o RecoverOptions) settle() C.uint64_t { return milliseconds(o.Settle) }

func milliseconds(duration time.Duration) C.uint64_t {
	if duration <= 0 {
		return 0
	}
	// Rounded up: a short time must not become the default.
	return C.uint64_t((duration + time.Millisecond - 1) / time.Millisecond)
}

// Observe looks at the node and changes nothing.
func (n *Node) Observe(ctx context.Context) (*Observation, error) {
	var seen *C.cpr_observation
	if err := n.make(ctx, func(node *C.cpr_node, call C.go_call, err **C.cpr_error) C.cpr_status {
		return C.go_observe(node, call, &seen, err)
	}); err != nil {
		return nil, err
	}
	free := func(ptr unsafe.Pointer) { C.cpr_observation_free((*C.cpr_observation)(ptr)) }
	o := &Observation{newCell(unsafe.Pointer(seen), free)}
	closeWhenUnreachable(o, o.cell)
	return o, nil
}

// JSON returns what was seen.
func (o *Observation) JSON() (json.RawMessage, error) {
	defer runtime.KeepAlive(o)
	return o.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_observation_json((*C.cpr_observation)(ptr), buf, err)
	})
}

// Diagnose returns what is wrong and why.
func (o *Observation) Diagnose() (json.RawMessage, error) {
	defer runtime.KeepAlive(o)
	return o.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_diagnose((*C.cpr_observation)(ptr), buf, err)
	})
}

// Plan lets a policy decide; it changes nothing.
func (o *Observation) Plan(policy *Policy) (*Plan, error) {
	defer runtime.KeepAlive(o)
	ptr, err := o.cell.begin()
	if err != nil {
		return nil, err
	}
	defer o.cell.end()
	p, done, err := policy.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	var plan *C.cpr_plan
	var object *C.cpr_error
	status := C.cpr_plan_new((*C.cpr_observation)(ptr), p, &plan, &object)
	return newPlan(status, plan, object)
}

// Close frees the observation.
func (o *Observation) Close() error {
	o.cell.close()
	runtime.KeepAlive(o)
	return nil
}

// ReadPlan reads a plan that Plan.JSON or `cprecover plan -o json` wrote, and checks its digest.
func ReadPlan(plan []byte, policy *Policy) (*Plan, error) {
	p, done, err := policy.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	ptr, length := borrowed(plan)
	var read *C.cpr_plan
	var object *C.cpr_error
	status := C.cpr_plan_read(ptr, length, p, &read, &object)
	return newPlan(status, read, object)
}

func newPlan(status C.cpr_status, plan *C.cpr_plan, object *C.cpr_error) (*Plan, error) {
	if err := take(nil, status, object); err != nil {
		return nil, err
	}
	free := func(ptr unsafe.Pointer) { C.cpr_plan_free((*C.cpr_plan)(ptr)) }
	made := &Plan{newCell(unsafe.Pointer(plan), free)}
	closeWhenUnreachable(made, made.cell)
	return made, nil
}

// JSON returns the plan, with a digest that binds it.
func (p *Plan) JSON() (json.RawMessage, error) {
	defer runtime.KeepAlive(p)
	return p.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_plan_json((*C.cpr_plan)(ptr), buf, err)
	})
}

// Close frees the plan.
func (p *Plan) Close() error {
	p.cell.close()
	runtime.KeepAlive(p)
	return nil
}

// Apply applies a plan and nothing outside it. Report and errors are as for Recover.
func (n *Node) Apply(ctx context.Context, plan *Plan, options RecoverOptions) (*Report, error) {
	defer runtime.KeepAlive(plan)
	ptr, err := plan.cell.begin()
	if err != nil {
		return nil, err
	}
	defer plan.cell.end()
	text, err := n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_apply(node, (*C.cpr_plan)(ptr), options.flags(), options.settle(), call, buf, err)
	})
	return report(ctx, text, err)
}

// Recover looks, decides by a policy (the default one for nil), acts and verifies, until the node is healthy
// or nothing more may be done. A node that did not become healthy is no error: see Report.Healthy. When the
// context ended the recovery, both its report and the context's error are returned.
func (n *Node) Recover(ctx context.Context, policy *Policy, options RecoverOptions) (*Report, error) {
	p, done, err := policy.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	text, err := n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_recover(node, p, options.flags(), options.settle(), call, buf, err)
	})
	return report(ctx, text, err)
}

func report(ctx context.Context, text json.RawMessage, err error) (*Report, error) {
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Ending struct {
			State string `json:"state"`
		} `json:"ending"`
	}
	if err := json.Unmarshal(text, &parsed); err != nil {
		return nil, fmt.Errorf("cprecover: the report is not what this package knows: %w", err)
	}
	done := &Report{State: parsed.Ending.State, JSON: text}
	if why := ended(ctx); why != nil && !done.Healthy() {
		return done, fmt.Errorf("cprecover: the recovery ended %s: %w", done.State, why)
	}
	return done, nil
}
