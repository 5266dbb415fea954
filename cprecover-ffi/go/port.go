package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
)

// Port says which TCP port is asked about.
type Port struct {
	// Number is 1 to 65535.
	Number uint16
	// Address is what somebody wants to bind ("127.0.0.1", "::1"), any when empty.
	Address string
	// WantedBy is the one component whose port it should be; the manifests tell when 0.
	WantedBy Components
}

// Process is one process, as PortHolder returned it.
type Process struct {
	PID int32
	// StartTicks is when it started, in clock ticks since boot.
	StartTicks uint64
}

// PortHolder looks up who listens on a port and judges every holder; it changes nothing.
func (n *Node) PortHolder(ctx context.Context, port Port) (json.RawMessage, error) {
	address, length := chars(port.Address)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_port_holder(node, C.uint32_t(port.Number), address, length, C.uint64_t(port.WantedBy), call, buf, err)
	})
}

// Terminate ends a process that holds the port and is judged an orphan now; ErrRefused when it is none, or an
// etcd member that the quorum needs or whose data cannot be saved first; ErrBusy when somebody else works on the
// node or the cluster.
func (n *Node) Terminate(ctx context.Context, port Port, process Process, dryRun bool) (json.RawMessage, error) {
	address, length := chars(port.Address)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_terminate(node, C.uint32_t(port.Number), address, length, C.uint64_t(port.WantedBy),
			C.int32_t(process.PID), C.uint64_t(process.StartTicks), flag(dryRun, C.CPR_DRY_RUN), call, buf, err)
	})
}
