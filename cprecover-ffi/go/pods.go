package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"strings"
)

// Pods says who knows each pod folder of the node, and lists what was moved aside; it changes nothing.
func (n *Node) Pods(ctx context.Context) (json.RawMessage, error) {
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_pods_list(node, call, buf, err)
	})
}

// QuarantinePods moves the folders of these pods aside, with kubelet stopped meanwhile.
func (n *Node) QuarantinePods(ctx context.Context, uids ...string) (json.RawMessage, error) {
	return n.quarantine(ctx, strings.Join(uids, "\n"), 0)
}

// QuarantineLeftoverPods moves every pod folder aside that nobody knows, with kubelet stopped meanwhile.
func (n *Node) QuarantineLeftoverPods(ctx context.Context) (json.RawMessage, error) {
	return n.quarantine(ctx, "", C.CPR_PODS_ALL_LEFTOVER)
}

func (n *Node) quarantine(ctx context.Context, uids string, flags C.uint64_t) (json.RawMessage, error) {
	ptr, length := chars(uids)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_pods_quarantine(node, ptr, length, flags, call, buf, err)
	})
}

// UndoQuarantine moves the folders of a quarantine, the newest one when folder is empty, back to where they were.
func (n *Node) UndoQuarantine(ctx context.Context, folder string) (json.RawMessage, error) {
	ptr, length := chars(folder)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_pods_undo(node, ptr, length, call, buf, err)
	})
}
