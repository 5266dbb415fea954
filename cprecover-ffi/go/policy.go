package cprecover

// #include "shim.h"
import "C"

import (
	"encoding/json"
	"runtime"
	"unsafe"
)

// Policy decides when to act. A nil *Policy is the default one.
type Policy struct{ cell *cell }

// LoadPolicy loads a shipped policy by its name, or a file by a path with a "/" in it, which must have this
// SHA-256 (64 hex digits) unless that is empty.
func LoadPolicy(name, sha256 string) (*Policy, error) {
	ptr, length := chars(name)
	digest, digestLen := chars(sha256)
	var policy *C.cpr_policy
	var object *C.cpr_error
	if err := take(nil, C.cpr_policy_load(ptr, length, digest, digestLen, &policy, &object), object); err != nil {
		return nil, err
	}
	free := func(ptr unsafe.Pointer) { C.cpr_policy_free((*C.cpr_policy)(ptr)) }
	p := &Policy{newCell(unsafe.Pointer(policy), free)}
	closeWhenUnreachable(p, p.cell)
	return p, nil
}

// JSON returns name, version and digest.
func (p *Policy) JSON() (json.RawMessage, error) {
	defer runtime.KeepAlive(p)
	return p.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_policy_json((*C.cpr_policy)(ptr), buf, err)
	})
}

// Close frees the policy; plans that use it keep it.
func (p *Policy) Close() error {
	p.cell.close()
	runtime.KeepAlive(p)
	return nil
}

// borrow returns the policy's handle, nil for the default, and what ends its use.
func (p *Policy) borrow() (*C.cpr_policy, func(), error) {
	if p == nil {
		return nil, func() {}, nil
	}
	ptr, err := p.cell.begin()
	if err != nil {
		return nil, nil, err
	}
	return (*C.cpr_policy)(ptr), func() { p.cell.end(); runtime.KeepAlive(p) }, nil
}
