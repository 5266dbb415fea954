/* Builds the library's option structs on C's stack: cgo forbids handing it Go memory that holds pointers. */
#ifndef CPRECOVER_GO_SHIM_H
#define CPRECOVER_GO_SHIM_H
#include <cprecover.h>

/* How a call is bounded and watched; `log` is a cgo handle, 0 for none. */
typedef struct go_call {
    uint64_t timeout_ms;
    const cpr_cancel *cancel;
    uintptr_t log;
    int32_t level;
} go_call;

/* Borrowed bytes. */
#define GO_BYTES(name) const char *name, size_t name##_len

cpr_status go_open(GO_BYTES(root), GO_BYTES(config), cpr_node **node, cpr_error **err);
cpr_status go_policy_load(GO_BYTES(name), GO_BYTES(sha256), GO_BYTES(key), GO_BYTES(cache), cpr_policy **policy, cpr_error **err);
cpr_status go_port_holder(const cpr_node *node, uint32_t port, GO_BYTES(address), uint64_t wanted_by, go_call call,
                          cpr_buf *json, cpr_error **err);
cpr_status go_terminate(cpr_node *node, uint32_t port, GO_BYTES(address), uint64_t wanted_by, int32_t pid,
                        uint64_t start_ticks, uint64_t flags, go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_backup_create(cpr_node *node, uint64_t flags, uint64_t groups, GO_BYTES(reason), go_call call,
                            cpr_buf *json, cpr_error **err);
cpr_status go_backup_verify(const cpr_node *node, GO_BYTES(id), go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_backup_restore(cpr_node *node, GO_BYTES(id), uint64_t flags, uint64_t groups, uint64_t components,
                             GO_BYTES(below), go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_hold(cpr_node *node, GO_BYTES(name), GO_BYTES(reason), go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_release(cpr_node *node, GO_BYTES(name), go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_observe(const cpr_node *node, go_call call, cpr_observation **seen, cpr_error **err);
cpr_status go_apply(cpr_node *node, const cpr_plan *plan, uint64_t flags, uint64_t settle_ms, go_call call,
                    cpr_buf *report, cpr_error **err);
cpr_status go_recover(cpr_node *node, const cpr_policy *policy, uint64_t flags, uint64_t settle_ms, go_call call,
                      cpr_buf *report, cpr_error **err);
cpr_status go_watch(const cpr_node *node, const cpr_policy *policy, uint64_t flags, uint64_t every_ms, uint32_t sick_after,
                    uint32_t recoveries_per_hour, uintptr_t event, go_call call, cpr_error **err);
cpr_status go_regenerate_plan(const cpr_node *node, uint64_t components, uint64_t flags, GO_BYTES(config),
                              GO_BYTES(assume_defaults), go_call call, cpr_regeneration **plan, cpr_error **err);
cpr_status go_regenerate_apply(cpr_node *node, const cpr_regeneration *plan, uint64_t flags, go_call call,
                               cpr_buf *json, cpr_error **err);
cpr_status go_pods_list(const cpr_node *node, go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_pods_quarantine(cpr_node *node, GO_BYTES(uids), uint64_t flags, go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_pods_undo(cpr_node *node, GO_BYTES(folder), go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_etcd_status(const cpr_node *node, go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_etcd_check(const cpr_node *node, GO_BYTES(data_dir), go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_etcd_snapshot(const cpr_node *node, GO_BYTES(to), go_call call, cpr_buf *json, cpr_error **err);
cpr_status go_support_bundle(const cpr_node *node, const cpr_policy *policy, GO_BYTES(to), go_call call, cpr_buf *json,
                             cpr_error **err);
#endif
