package cprecover

// #cgo CFLAGS: -std=gnu11
// #cgo LDFLAGS: -lcprecover
// #include "shim.h"
import "C"

import (
	"encoding/json"
	"fmt"
	"runtime"
	"unsafe"
)

// Node is one control-plane node.
type Node struct {
	cell  *cell
	log   LogFunc
	level Level
}

// Option is a choice of Open.
type Option func(*settings)

type settings struct {
	root   string
	config []byte
	log    LogFunc
	level  Level
}

// WithRoot sets the absolute path of the node's file system; "/" by default.
func WithRoot(root string) Option { return func(s *settings) { s.root = root } }

// WithConfig sets the node's configuration, YAML or JSON, instead of /etc/cprecover/config.yaml below the root.
func WithConfig(config []byte) Option { return func(s *settings) { s.config = config } }

// WithLog sends log lines of at least this level to a function.
func WithLog(level Level, log LogFunc) Option {
	return func(s *settings) { s.level, s.log = level, log }
}

// Open opens a node: it reads the node's configuration and changes nothing. Close it in the end.
func Open(options ...Option) (*Node, error) {
	if abi := C.cpr_abi_version(); abi != C.CPR_ABI_VERSION {
		return nil, fmt.Errorf("cprecover: the library has ABI %d, this package needs %d", abi, C.CPR_ABI_VERSION)
	}
	var s settings
	for _, option := range options {
		option(&s)
	}
	root, rootLen := chars(s.root)
	config, configLen := borrowed(s.config)
	var node *C.cpr_node
	var object *C.cpr_error
	if err := take(nil, C.go_open(root, rootLen, config, configLen, &node, &object), object); err != nil {
		return nil, err
	}
	free := func(ptr unsafe.Pointer) { C.cpr_node_free((*C.cpr_node)(ptr)) }
	n := &Node{cell: newCell(unsafe.Pointer(node), free), log: s.log, level: s.level}
	closeWhenUnreachable(n, n.cell)
	return n, nil
}

// Close waits for running calls and frees the node. Closing twice is fine; later calls return ErrClosed.
func (n *Node) Close() error {
	n.cell.close()
	runtime.KeepAlive(n)
	return nil
}

// Options returns the node's options as they are in force.
func (n *Node) Options() (json.RawMessage, error) {
	defer runtime.KeepAlive(n)
	return n.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_node_json((*C.cpr_node)(ptr), buf, err)
	})
}

// Audit checks the node's audit log and returns its entries, oldest first.
func (n *Node) Audit() (json.RawMessage, error) {
	defer runtime.KeepAlive(n)
	return n.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_audit((*C.cpr_node)(ptr), buf, err)
	})
}

// Version returns the version of the C library that runs.
func Version() string { return C.GoString(C.cpr_version()) }
