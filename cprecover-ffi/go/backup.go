package cprecover

// #include "shim.h"
import "C"

import (
	"context"
	"encoding/json"
	"runtime"
	"unsafe"
)

// Components is a set of control-plane components.
type Components uint64

// The components.
const (
	Etcd                  Components = C.CPR_ETCD
	KubeAPIServer         Components = C.CPR_KUBE_APISERVER
	KubeControllerManager Components = C.CPR_KUBE_CONTROLLER_MANAGER
	KubeScheduler         Components = C.CPR_KUBE_SCHEDULER
)

// Groups is a set of groups of files.
type Groups uint64

// The groups.
const (
	Manifests   Groups = C.CPR_GROUP_MANIFESTS
	PKI         Groups = C.CPR_GROUP_PKI
	Kubeconfigs Groups = C.CPR_GROUP_KUBECONFIGS
	Kubeadm     Groups = C.CPR_GROUP_KUBEADM
	Kubelet     Groups = C.CPR_GROUP_KUBELET
)

// BackupOptions says what a snapshot covers; the zero value is the default.
type BackupOptions struct {
	// Groups is what is covered, the manifests when 0.
	Groups Groups
	// Reason is why the snapshot is made, "manual" when empty.
	Reason string
	// HealthVerified says that the caller verified the node's health just now.
	HealthVerified bool
	// IfChanged makes no new snapshot when nothing has changed since the newest one.
	IfChanged bool
}

// RestoreOptions says what of a snapshot is restored, and how; the zero value is the default.
type RestoreOptions struct {
	// Groups is all when 0; not together with Components.
	Groups Groups
	// Components limits the restore to their manifests.
	Components Components
	// Below is a folder of the node to restore below, instead of in place.
	Below string
	// DryRun changes nothing.
	DryRun bool
	// Exact also removes files that the snapshot does not have.
	Exact bool
	// ReplaceHeld also restores manifests that are held, and ends their hold.
	ReplaceHeld bool
	// OtherNode also restores what is of another node, which holds that node's name and addresses, or of another
	// cluster by its CA.
	OtherNode bool
}

func flag(set bool, bit C.uint64_t) C.uint64_t {
	if set {
		return bit
	}
	return 0
}

// Backup makes a snapshot and returns its index; it is on stable storage then.
func (n *Node) Backup(ctx context.Context, options BackupOptions) (json.RawMessage, error) {
	reason, reasonLen := chars(options.Reason)
	flags := flag(options.HealthVerified, C.CPR_BACKUP_HEALTH_VERIFIED) | flag(options.IfChanged, C.CPR_BACKUP_IF_CHANGED)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_backup_create(node, flags, C.uint64_t(options.Groups), reason, reasonLen, call, buf, err)
	})
}

// Backups returns the node's snapshots by number, damaged ones included.
func (n *Node) Backups() (json.RawMessage, error) {
	defer runtime.KeepAlive(n)
	return n.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_backup_list((*C.cpr_node)(ptr), buf, err)
	})
}

// VerifyBackup checks a snapshot: an id, a number, "latest" or "last-known-good". Damage is no error.
func (n *Node) VerifyBackup(ctx context.Context, id string) (json.RawMessage, error) {
	ptr, length := chars(id)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_backup_verify(node, ptr, length, call, buf, err)
	})
}

// Restore puts files of a snapshot back, all or nothing; what stood there is snapshotted first.
func (n *Node) Restore(ctx context.Context, id string, options RestoreOptions) (json.RawMessage, error) {
	ptr, length := chars(id)
	below, belowLen := chars(options.Below)
	flags := flag(options.DryRun, C.CPR_DRY_RUN) | flag(options.Exact, C.CPR_RESTORE_EXACT) |
		flag(options.ReplaceHeld, C.CPR_RESTORE_REPLACE_HELD) | flag(options.OtherNode, C.CPR_RESTORE_OTHER_NODE)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_backup_restore(node, ptr, length, flags, C.uint64_t(options.Groups),
			C.uint64_t(options.Components), below, belowLen, call, buf, err)
	})
}

// Hold takes a manifest (a component or a file's name) out of kubelet's sight, so that it can be put back.
func (n *Node) Hold(ctx context.Context, name, reason string) (json.RawMessage, error) {
	ptr, length := chars(name)
	why, whyLen := chars(reason)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_hold(node, ptr, length, why, whyLen, call, buf, err)
	})
}

// Release puts a held manifest back.
func (n *Node) Release(ctx context.Context, name string) (json.RawMessage, error) {
	ptr, length := chars(name)
	return n.do(ctx, func(node *C.cpr_node, call C.go_call, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.go_release(node, ptr, length, call, buf, err)
	})
}

// Held returns what is held.
func (n *Node) Held() (json.RawMessage, error) {
	defer runtime.KeepAlive(n)
	return n.cell.read(func(ptr unsafe.Pointer, buf *C.cpr_buf, err **C.cpr_error) C.cpr_status {
		return C.cpr_held((*C.cpr_node)(ptr), buf, err)
	})
}
