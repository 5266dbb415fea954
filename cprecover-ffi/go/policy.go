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

// PolicyOptions says how a policy file is trusted and where it is compiled already; the zero value asks nothing.
type PolicyOptions struct {
	// SHA256 is the digest that a file must have, 64 hex digits.
	SHA256 string
	// Key is a public key (ed25519, PEM): a file is loaded only with a FILE.sig by it.
	Key string
	// Cache is the folder where "cprecover policy install" put compiled policies.
	Cache string
}

// LoadPolicy loads a shipped policy by its name, or a file by a path with a "/" in it. With an empty name it
// loads the one that Cache holds under SHA256.
func LoadPolicy(name string, options PolicyOptions) (*Policy, error) {
	ptr, length := chars(name)
	sha256, sha256Len := chars(options.SHA256)
	key, keyLen := chars(options.Key)
	cache, cacheLen := chars(options.Cache)
	var policy *C.cpr_policy
	var object *C.cpr_error
	status := C.go_policy_load(ptr, length, sha256, sha256Len, key, keyLen, cache, cacheLen, &policy, &object)
	if err := take(nil, status, object); err != nil {
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
