#include "shim.h"
#include "_cgo_export.h"
#include <string.h>

static void log_line(void *user, int32_t level, const char *target, size_t target_len, const char *message,
                     size_t message_len) {
    cprecoverGoLog((uintptr_t)user, level, (char *)target, target_len, (char *)message, message_len);
}

static cpr_call call_of(go_call from) {
    cpr_call call;
    memset(&call, 0, sizeof call);
    call.timeout_ms = from.timeout_ms;
    call.cancel = from.cancel;
    if (from.log != 0) {
        call.log = log_line;
        call.log_user = (void *)from.log;
        call.log_level = from.level;
    }
    return call;
}

static cpr_port port_of(uint32_t number, GO_BYTES(address), uint64_t wanted_by) {
    cpr_port port;
    memset(&port, 0, sizeof port);
    port.port = number;
    port.address = address;
    port.address_len = address_len;
    port.wanted_by = wanted_by;
    return port;
}

static cpr_recover_options recover_options(uint64_t flags, uint64_t settle_ms) {
    cpr_recover_options options;
    memset(&options, 0, sizeof options);
    options.flags = flags;
    options.settle_ms = settle_ms;
    return options;
}

cpr_status go_open(GO_BYTES(root), GO_BYTES(config), cpr_node **node, cpr_error **err) {
    cpr_node_options options;
    memset(&options, 0, sizeof options);
    options.root = root;
    options.root_len = root_len;
    options.config = config;
    options.config_len = config_len;
    return cpr_node_open(&options, sizeof options, node, err);
}

cpr_status go_policy_load(GO_BYTES(name), GO_BYTES(sha256), GO_BYTES(key), GO_BYTES(cache), cpr_policy **policy, cpr_error **err) {
    cpr_policy_options options;
    memset(&options, 0, sizeof options);
    options.sha256 = sha256;
    options.sha256_len = sha256_len;
    options.key = key;
    options.key_len = key_len;
    options.cache = cache;
    options.cache_len = cache_len;
    return cpr_policy_load(name, name_len, &options, sizeof options, policy, err);
}

cpr_status go_port_holder(const cpr_node *node, uint32_t port, GO_BYTES(address), uint64_t wanted_by, go_call call,
                          cpr_buf *json, cpr_error **err) {
    cpr_port question = port_of(port, address, address_len, wanted_by);
    cpr_call c = call_of(call);
    return cpr_port_holder(node, &question, sizeof question, &c, sizeof c, json, err);
}

cpr_status go_terminate(cpr_node *node, uint32_t port, GO_BYTES(address), uint64_t wanted_by, int32_t pid,
                        uint64_t start_ticks, uint64_t flags, go_call call, cpr_buf *json, cpr_error **err) {
    cpr_port question = port_of(port, address, address_len, wanted_by);
    cpr_call c = call_of(call);
    return cpr_terminate(node, &question, sizeof question, pid, start_ticks, flags, &c, sizeof c, json, err);
}

cpr_status go_backup_create(cpr_node *node, uint64_t flags, uint64_t groups, GO_BYTES(reason), go_call call,
                            cpr_buf *json, cpr_error **err) {
    cpr_backup_options options;
    cpr_call c = call_of(call);
    memset(&options, 0, sizeof options);
    options.flags = flags;
    options.groups = groups;
    options.reason = reason;
    options.reason_len = reason_len;
    return cpr_backup_create(node, &options, sizeof options, &c, sizeof c, json, err);
}

cpr_status go_backup_verify(const cpr_node *node, GO_BYTES(id), go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_backup_verify(node, id, id_len, &c, sizeof c, json, err);
}

cpr_status go_backup_restore(cpr_node *node, GO_BYTES(id), uint64_t flags, uint64_t groups, uint64_t components,
                             GO_BYTES(below), go_call call, cpr_buf *json, cpr_error **err) {
    cpr_restore_options options;
    cpr_call c = call_of(call);
    memset(&options, 0, sizeof options);
    options.flags = flags;
    options.groups = groups;
    options.components = components;
    options.below = below;
    options.below_len = below_len;
    return cpr_backup_restore(node, id, id_len, &options, sizeof options, &c, sizeof c, json, err);
}

cpr_status go_hold(cpr_node *node, GO_BYTES(name), GO_BYTES(reason), go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_hold(node, name, name_len, reason, reason_len, &c, sizeof c, json, err);
}

cpr_status go_release(cpr_node *node, GO_BYTES(name), go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_release(node, name, name_len, &c, sizeof c, json, err);
}

cpr_status go_observe(const cpr_node *node, go_call call, cpr_observation **seen, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_observe(node, &c, sizeof c, seen, err);
}

cpr_status go_apply(cpr_node *node, const cpr_plan *plan, uint64_t flags, uint64_t settle_ms, go_call call,
                    cpr_buf *report, cpr_error **err) {
    cpr_recover_options options = recover_options(flags, settle_ms);
    cpr_call c = call_of(call);
    return cpr_plan_apply(node, plan, &options, sizeof options, &c, sizeof c, report, err);
}

cpr_status go_recover(cpr_node *node, const cpr_policy *policy, uint64_t flags, uint64_t settle_ms, go_call call,
                      cpr_buf *report, cpr_error **err) {
    cpr_recover_options options = recover_options(flags, settle_ms);
    cpr_call c = call_of(call);
    return cpr_recover(node, policy, &options, sizeof options, &c, sizeof c, report, err);
}

static int32_t event(void *user, const char *json, size_t json_len) {
    return cprecoverGoEvent((uintptr_t)user, (char *)json, json_len);
}

cpr_status go_watch(const cpr_node *node, const cpr_policy *policy, uint64_t flags, uint64_t every_ms, uint32_t sick_after,
                    uint32_t recoveries_per_hour, uintptr_t handle, go_call call, cpr_error **err) {
    cpr_watch_options options;
    cpr_call c = call_of(call);
    memset(&options, 0, sizeof options);
    options.flags = flags;
    options.every_ms = every_ms;
    options.sick_after = sick_after;
    options.recoveries_per_hour = recoveries_per_hour;
    options.event = event;
    options.event_user = (void *)handle;
    return cpr_watch(node, policy, &options, sizeof options, &c, sizeof c, err);
}

cpr_status go_regenerate_plan(const cpr_node *node, uint64_t components, uint64_t flags, GO_BYTES(config),
                              GO_BYTES(assume_defaults), go_call call, cpr_regeneration **plan, cpr_error **err) {
    cpr_regenerate_options options;
    cpr_call c = call_of(call);
    memset(&options, 0, sizeof options);
    options.flags = flags;
    options.config = config;
    options.config_len = config_len;
    options.assume_defaults = assume_defaults;
    options.assume_defaults_len = assume_defaults_len;
    return cpr_regenerate_plan(node, components, &options, sizeof options, &c, sizeof c, plan, err);
}

cpr_status go_regenerate_apply(cpr_node *node, const cpr_regeneration *plan, uint64_t flags, go_call call,
                               cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_regenerate_apply(node, plan, flags, &c, sizeof c, json, err);
}

cpr_status go_pods_list(const cpr_node *node, go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_pods_list(node, &c, sizeof c, json, err);
}

cpr_status go_pods_quarantine(cpr_node *node, GO_BYTES(uids), uint64_t flags, go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_pods_quarantine(node, uids, uids_len, flags, &c, sizeof c, json, err);
}

cpr_status go_pods_undo(cpr_node *node, GO_BYTES(folder), go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_pods_undo(node, folder, folder_len, &c, sizeof c, json, err);
}

cpr_status go_etcd_status(const cpr_node *node, go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_etcd_status(node, &c, sizeof c, json, err);
}

cpr_status go_etcd_check(const cpr_node *node, GO_BYTES(data_dir), go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_etcd_check(node, data_dir, data_dir_len, &c, sizeof c, json, err);
}

cpr_status go_etcd_snapshot(const cpr_node *node, GO_BYTES(to), go_call call, cpr_buf *json, cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_etcd_snapshot(node, to, to_len, &c, sizeof c, json, err);
}

cpr_status go_support_bundle(const cpr_node *node, const cpr_policy *policy, GO_BYTES(to), go_call call, cpr_buf *json,
                             cpr_error **err) {
    cpr_call c = call_of(call);
    return cpr_support_bundle(node, policy, to, to_len, &c, sizeof c, json, err);
}
