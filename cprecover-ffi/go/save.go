package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
)

// EtcdStatus asks the node's etcd member how it and its cluster are doing.
func (n *Node) EtcdStatus(ctx context.Context) (json.RawMessage, error) {
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_etcd_status(node, call, buf, err)
	})
}

// CheckEtcd judges etcd's data directory without starting etcd and without changing anything; "" is the node's own.
func (n *Node) CheckEtcd(ctx context.Context, dataDir string) (json.RawMessage, error) {
	ptr, length := chars(dataDir)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_etcd_check(node, ptr, length, call, buf, err)
	})
}

// SnapshotEtcd saves a snapshot of the node's running etcd member to the new file to, and verifies it.
func (n *Node) SnapshotEtcd(ctx context.Context, to string) (json.RawMessage, error) {
	ptr, length := chars(to)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_etcd_snapshot(node, ptr, length, call, buf, err)
	})
}

// SupportBundle writes a tar of what is seen, found, logged and was done, and of what policy would do, to the
// new file to; secrets are taken out.
func (n *Node) SupportBundle(ctx context.Context, policy *Policy, to string) (json.RawMessage, error) {
	chosen, done, err := policy.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	ptr, length := chars(to)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_support_bundle(node, chosen, ptr, length, call, buf, err)
	})
}
