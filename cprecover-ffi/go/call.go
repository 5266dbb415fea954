package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"runtime"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// chars copies a string for a call of C; NULL when it is empty.
func chars(text string) (*C.char, C.size_t) { return borrowed([]byte(text)) }

// borrowed lends bytes to a call of C; NULL when there are none.
func borrowed(bytes []byte) (*C.char, C.size_t) {
	if len(bytes) == 0 {
		return nil, 0
	}
	return (*C.char)(unsafe.Pointer(&bytes[0])), C.size_t(len(bytes))
}

// result copies a buffer of the library and frees it.
func result(ctx context.Context, status C.cpr_status, buf *C.cpr_buf, object *C.cpr_error) (json.RawMessage, error) {
	if err := take(ctx, status, object); err != nil {
		return nil, err
	}
	defer C.cpr_buf_free(buf)
	return append(json.RawMessage(nil), unsafe.Slice((*byte)(unsafe.Pointer(buf.ptr)), int(buf.len))...), nil
}

// running is a call that a context can end.
type running struct {
	call   C.go_call
	cancel *C.cpr_cancel
	done   chan struct{}
	waiter sync.WaitGroup
	sink   *sink
	log    cgo.Handle
}

// start prepares a call; finish must follow.
func (n *Node) start(ctx context.Context) (*running, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := &running{}
	if deadline, ok := ctx.Deadline(); ok {
		// 0 would be the function's own default.
		r.call.timeout_ms = 1
		if left := milliseconds(time.Until(deadline)); left > 1 {
			r.call.timeout_ms = left
		}
	}
	if ctx.Done() != nil {
		var object *C.cpr_error
		if err := take(ctx, C.cpr_cancel_new(&r.cancel, &object), object); err != nil {
			return nil, err
		}
		r.call.cancel = r.cancel
		r.done = make(chan struct{})
		r.waiter.Add(1)
		go func() {
			defer r.waiter.Done()
			select {
			case <-ctx.Done():
				C.cpr_cancel_trigger(r.cancel)
			case <-r.done:
			}
		}()
	}
	if n.log != nil {
		r.sink = &sink{log: n.log}
		r.log = cgo.NewHandle(r.sink)
		r.call.log = C.uintptr_t(r.log)
		r.call.level = C.int32_t(n.level)
	}
	return r, nil
}

// ended returns why the context ended a call that has just returned, nil when it did not. The library looks at
// a clock of its own, which may be ahead of the context's timer.
func ended(ctx context.Context) error {
	if ctx == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= time.Millisecond {
		return context.DeadlineExceeded
	}
	return nil
}

// finish ends the waiting goroutine and passes a panic of the log callback on.
func (r *running) finish() {
	if r.done != nil {
		close(r.done)
		r.waiter.Wait()
		C.cpr_cancel_free(r.cancel)
	}
	if r.sink != nil {
		r.log.Delete()
		if r.sink.panicked != nil {
			panic(r.sink.panicked)
		}
	}
}

// do runs one call that writes JSON.
func (n *Node) do(ctx context.Context, f func(*C.cpr_node, C.go_call, *C.cpr_buf, **C.cpr_error) C.cpr_status) (json.RawMessage, error) {
	defer runtime.KeepAlive(n)
	ptr, err := n.cell.begin()
	if err != nil {
		return nil, err
	}
	defer n.cell.end()
	r, err := n.start(ctx)
	if err != nil {
		return nil, err
	}
	defer r.finish()
	var buf C.cpr_buf
	var object *C.cpr_error
	status := f((*C.cpr_node)(ptr), r.call, &buf, &object)
	return result(ctx, status, &buf, object)
}

// read runs one call that writes an object's JSON and takes no time.
func (c *cell) read(f func(unsafe.Pointer, *C.cpr_buf, **C.cpr_error) C.cpr_status) (json.RawMessage, error) {
	ptr, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer c.end()
	var buf C.cpr_buf
	var object *C.cpr_error
	status := f(ptr, &buf, &object)
	return result(nil, status, &buf, object)
}

// make runs one call that makes a handle.
func (n *Node) make(ctx context.Context, f func(*C.cpr_node, C.go_call, **C.cpr_error) C.cpr_status) error {
	defer runtime.KeepAlive(n)
	ptr, err := n.cell.begin()
	if err != nil {
		return err
	}
	defer n.cell.end()
	r, err := n.start(ctx)
	if err != nil {
		return err
	}
	defer r.finish()
	var object *C.cpr_error
	status := f((*C.cpr_node)(ptr), r.call, &object)
	return take(ctx, status, object)
}
