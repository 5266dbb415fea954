package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"runtime/cgo"
	"time"
	"unsafe"
)

// WatchOptions says how a node is watched; the zero value is the default.
type WatchOptions struct {
	// Recover recovers from an outage, as far as the policy goes.
	Recover bool
	// Every is how long after a look the next one comes while nothing changes; 30 s when 0.
	Every time.Duration
	// SickAfter is how many bad looks in a row make an outage; 3 when 0.
	SickAfter uint32
	// RecoveriesPerHour is how many recoveries an hour may have; 3 when 0.
	RecoveriesPerHour uint32
}

// watcher is where the events of one watch go.
type watcher struct {
	event func(json.RawMessage) bool
	// panicked is what the callback panicked with: it must not unwind through C.
	panicked any
}

//export cprecoverGoEvent
func cprecoverGoEvent(user C.uintptr_t, text *C.char, length C.size_t) (end C.int32_t) {
	w := cgo.Handle(user).Value().(*watcher)
	defer func() {
		if w.panicked = recover(); w.panicked != nil {
			end = 1
		}
	}()
	if w.event(json.RawMessage(C.GoBytes(unsafe.Pointer(text), C.int(length)))) {
		return 0
	}
	return 1
}

// Watch watches the node until the context ends or event returns false: it backs up what works after each
// change of a manifest and, every 10 minutes, what else changed, tells each turn as JSON (cprecover.dev/event/v1), and recovers when it is told to, by a policy (the
// default one for nil). Events come on the calling goroutine. A context's deadline that passes ends the watch
// with context.DeadlineExceeded.
func (n *Node) Watch(ctx context.Context, policy *Policy, options WatchOptions, event func(json.RawMessage) bool) error {
	p, done, err := policy.borrow()
	if err != nil {
		return err
	}
	defer done()
	w := &watcher{event: event}
	handle := cgo.NewHandle(w)
	defer handle.Delete()
	err = n.make(ctx, func(node *C.cpr_node, call C.go_call, err **C.cpr_error) C.cpr_status {
		return C.go_watch(node, p, flag(options.Recover, C.CPR_WATCH_RECOVER), milliseconds(options.Every),
			C.uint32_t(options.SickAfter), C.uint32_t(options.RecoveriesPerHour), C.uintptr_t(handle), call, err)
	})
	if w.panicked != nil {
		panic(w.panicked)
	}
	if err == nil {
		return ended(ctx)
	}
	return err
}
