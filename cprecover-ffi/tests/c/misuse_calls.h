/* Every exported function as the misuse matrix calls it. Made by tests/misuse.rs; do not edit. */
static cpr_status call_cpr_abi_version(const struct slot *s, cpr_error **e) { (void)s; (void)e; (void)cpr_abi_version(); return CPR_OK; }
#define ROW_cpr_abi_version {"cpr_abi_version", call_cpr_abi_version, 0, 0, {{NUMBER, 0, 0, ""}}}
static cpr_status call_cpr_audit(const struct slot *s, cpr_error **e) { return cpr_audit((cpr_node *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_audit {"cpr_audit", call_cpr_audit, 1, 2, {{SHARED, NODE, 0, "node"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_backup_create(const struct slot *s, cpr_error **e) { return cpr_backup_create((cpr_node *)s[0].ptr, (const cpr_backup_options *)s[1].ptr, s[1].len, (const cpr_call *)s[2].ptr, s[2].len, (cpr_buf *)s[3].ptr, e); }
#define ROW_cpr_backup_create {"cpr_backup_create", call_cpr_backup_create, 1, 4, {{ALONE, NODE, 0, "node"}, {STRUCT, BACKUP_OPTIONS, sizeof(cpr_backup_options), "options"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_backup_list(const struct slot *s, cpr_error **e) { return cpr_backup_list((cpr_node *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_backup_list {"cpr_backup_list", call_cpr_backup_list, 1, 2, {{SHARED, NODE, 0, "node"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_backup_restore(const struct slot *s, cpr_error **e) { return cpr_backup_restore((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (const cpr_restore_options *)s[2].ptr, s[2].len, (const cpr_call *)s[3].ptr, s[3].len, (cpr_buf *)s[4].ptr, e); }
#define ROW_cpr_backup_restore {"cpr_backup_restore", call_cpr_backup_restore, 1, 5, {{ALONE, NODE, 0, "node"}, {TEXT, 0, 0, "id"}, {STRUCT, RESTORE_OPTIONS, sizeof(cpr_restore_options), "options"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_backup_verify(const struct slot *s, cpr_error **e) { return cpr_backup_verify((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (const cpr_call *)s[2].ptr, s[2].len, (cpr_buf *)s[3].ptr, e); }
#define ROW_cpr_backup_verify {"cpr_backup_verify", call_cpr_backup_verify, 1, 4, {{SHARED, NODE, 0, "node"}, {TEXT, 0, 0, "id"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_buf_free(const struct slot *s, cpr_error **e) { (void)e; cpr_buf_free((cpr_buf *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_buf_free {"cpr_buf_free", call_cpr_buf_free, 0, 1, {{OUT_STRUCT, 0, sizeof(cpr_buf), "buf"}}}
static cpr_status call_cpr_cancel_free(const struct slot *s, cpr_error **e) { (void)e; cpr_cancel_free((cpr_cancel *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_cancel_free {"cpr_cancel_free", call_cpr_cancel_free, 0, 1, {{ALONE, CANCEL, 0, "cancel"}}}
static cpr_status call_cpr_cancel_new(const struct slot *s, cpr_error **e) { return cpr_cancel_new((cpr_cancel **)s[0].ptr, e); }
#define ROW_cpr_cancel_new {"cpr_cancel_new", call_cpr_cancel_new, 1, 1, {{OUT_HANDLE, CANCEL, 0, "cancel"}}}
static cpr_status call_cpr_cancel_trigger(const struct slot *s, cpr_error **e) { (void)e; cpr_cancel_trigger((cpr_cancel *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_cancel_trigger {"cpr_cancel_trigger", call_cpr_cancel_trigger, 0, 1, {{SHARED, CANCEL, 0, "cancel"}}}
static cpr_status call_cpr_diagnose(const struct slot *s, cpr_error **e) { return cpr_diagnose((cpr_observation *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_diagnose {"cpr_diagnose", call_cpr_diagnose, 1, 2, {{SHARED, OBSERVATION, 0, "observation"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_error_code(const struct slot *s, cpr_error **e) { (void)e; return cpr_error_code((cpr_error *)s[0].ptr); }
#define ROW_cpr_error_code {"cpr_error_code", call_cpr_error_code, 0, 1, {{SHARED, ERROR, 0, "error"}}}
static cpr_status call_cpr_error_free(const struct slot *s, cpr_error **e) { (void)e; cpr_error_free((cpr_error *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_error_free {"cpr_error_free", call_cpr_error_free, 0, 1, {{ALONE, ERROR, 0, "error"}}}
static cpr_status call_cpr_error_message(const struct slot *s, cpr_error **e) { (void)e; (void)cpr_error_message((cpr_error *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_error_message {"cpr_error_message", call_cpr_error_message, 0, 1, {{SHARED, ERROR, 0, "error"}}}
static cpr_status call_cpr_error_os_error(const struct slot *s, cpr_error **e) { (void)e; (void)cpr_error_os_error((cpr_error *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_error_os_error {"cpr_error_os_error", call_cpr_error_os_error, 0, 1, {{SHARED, ERROR, 0, "error"}}}
static cpr_status call_cpr_etcd_check(const struct slot *s, cpr_error **e) { return cpr_etcd_check((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (const cpr_call *)s[2].ptr, s[2].len, (cpr_buf *)s[3].ptr, e); }
#define ROW_cpr_etcd_check {"cpr_etcd_check", call_cpr_etcd_check, 1, 4, {{SHARED, NODE, 0, "node"}, {TEXT, 0, 0, "data_dir"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_etcd_snapshot(const struct slot *s, cpr_error **e) { return cpr_etcd_snapshot((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (const cpr_call *)s[2].ptr, s[2].len, (cpr_buf *)s[3].ptr, e); }
#define ROW_cpr_etcd_snapshot {"cpr_etcd_snapshot", call_cpr_etcd_snapshot, 1, 4, {{SHARED, NODE, 0, "node"}, {TEXT, 0, 0, "to"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_etcd_status(const struct slot *s, cpr_error **e) { return cpr_etcd_status((cpr_node *)s[0].ptr, (const cpr_call *)s[1].ptr, s[1].len, (cpr_buf *)s[2].ptr, e); }
#define ROW_cpr_etcd_status {"cpr_etcd_status", call_cpr_etcd_status, 1, 3, {{SHARED, NODE, 0, "node"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_healthz_brief(const struct slot *s, cpr_error **e) { return cpr_healthz_brief((uint32_t)s[0].number, (const char *)s[1].ptr, s[1].len, (cpr_health *)s[2].ptr, e); }
#define ROW_cpr_healthz_brief {"cpr_healthz_brief", call_cpr_healthz_brief, 1, 3, {{NUMBER, 0, 0, "http_status"}, {TEXT, 0, 0, "body"}, {OUT_STRUCT, 0, sizeof(cpr_health), "health"}}}
static cpr_status call_cpr_healthz_parse(const struct slot *s, cpr_error **e) { return cpr_healthz_parse((uint32_t)s[0].number, (const char *)s[1].ptr, s[1].len, (cpr_buf *)s[2].ptr, e); }
#define ROW_cpr_healthz_parse {"cpr_healthz_parse", call_cpr_healthz_parse, 1, 3, {{NUMBER, 0, 0, "http_status"}, {TEXT, 0, 0, "body"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_held(const struct slot *s, cpr_error **e) { return cpr_held((cpr_node *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_held {"cpr_held", call_cpr_held, 1, 2, {{SHARED, NODE, 0, "node"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_hold(const struct slot *s, cpr_error **e) { return cpr_hold((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (const char *)s[2].ptr, s[2].len, (const cpr_call *)s[3].ptr, s[3].len, (cpr_buf *)s[4].ptr, e); }
#define ROW_cpr_hold {"cpr_hold", call_cpr_hold, 1, 5, {{ALONE, NODE, 0, "node"}, {TEXT, 0, 0, "name"}, {TEXT, 0, 0, "reason"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_node_cancel(const struct slot *s, cpr_error **e) { (void)e; cpr_node_cancel((cpr_node *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_node_cancel {"cpr_node_cancel", call_cpr_node_cancel, 0, 1, {{SHARED, NODE, 0, "node"}}}
static cpr_status call_cpr_node_free(const struct slot *s, cpr_error **e) { (void)e; cpr_node_free((cpr_node *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_node_free {"cpr_node_free", call_cpr_node_free, 0, 1, {{ALONE, NODE, 0, "node"}}}
static cpr_status call_cpr_node_json(const struct slot *s, cpr_error **e) { return cpr_node_json((cpr_node *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_node_json {"cpr_node_json", call_cpr_node_json, 1, 2, {{SHARED, NODE, 0, "node"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_node_open(const struct slot *s, cpr_error **e) { return cpr_node_open((const cpr_node_options *)s[0].ptr, s[0].len, (cpr_node **)s[1].ptr, e); }
#define ROW_cpr_node_open {"cpr_node_open", call_cpr_node_open, 1, 2, {{STRUCT, NODE_OPTIONS, sizeof(cpr_node_options), "options"}, {OUT_HANDLE, NODE, 0, "node"}}}
static cpr_status call_cpr_observation_free(const struct slot *s, cpr_error **e) { (void)e; cpr_observation_free((cpr_observation *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_observation_free {"cpr_observation_free", call_cpr_observation_free, 0, 1, {{ALONE, OBSERVATION, 0, "observation"}}}
static cpr_status call_cpr_observation_json(const struct slot *s, cpr_error **e) { return cpr_observation_json((cpr_observation *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_observation_json {"cpr_observation_json", call_cpr_observation_json, 1, 2, {{SHARED, OBSERVATION, 0, "observation"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_observe(const struct slot *s, cpr_error **e) { return cpr_observe((cpr_node *)s[0].ptr, (const cpr_call *)s[1].ptr, s[1].len, (cpr_observation **)s[2].ptr, e); }
#define ROW_cpr_observe {"cpr_observe", call_cpr_observe, 1, 3, {{SHARED, NODE, 0, "node"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_HANDLE, OBSERVATION, 0, "observation"}}}
static cpr_status call_cpr_plan_apply(const struct slot *s, cpr_error **e) { return cpr_plan_apply((cpr_node *)s[0].ptr, (cpr_plan *)s[1].ptr, (const cpr_recover_options *)s[2].ptr, s[2].len, (const cpr_call *)s[3].ptr, s[3].len, (cpr_buf *)s[4].ptr, e); }
#define ROW_cpr_plan_apply {"cpr_plan_apply", call_cpr_plan_apply, 1, 5, {{ALONE, NODE, 0, "node"}, {SHARED, PLAN, 0, "plan"}, {STRUCT, RECOVER_OPTIONS, sizeof(cpr_recover_options), "options"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "report"}}}
static cpr_status call_cpr_plan_free(const struct slot *s, cpr_error **e) { (void)e; cpr_plan_free((cpr_plan *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_plan_free {"cpr_plan_free", call_cpr_plan_free, 0, 1, {{ALONE, PLAN, 0, "plan"}}}
static cpr_status call_cpr_plan_json(const struct slot *s, cpr_error **e) { return cpr_plan_json((cpr_plan *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_plan_json {"cpr_plan_json", call_cpr_plan_json, 1, 2, {{SHARED, PLAN, 0, "plan"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_plan_new(const struct slot *s, cpr_error **e) { return cpr_plan_new((cpr_observation *)s[0].ptr, (cpr_policy *)s[1].ptr, (cpr_plan **)s[2].ptr, e); }
#define ROW_cpr_plan_new {"cpr_plan_new", call_cpr_plan_new, 1, 3, {{SHARED, OBSERVATION, 0, "observation"}, {SHARED, POLICY, 0, "policy"}, {OUT_HANDLE, PLAN, 0, "plan"}}}
static cpr_status call_cpr_plan_read(const struct slot *s, cpr_error **e) { return cpr_plan_read((const char *)s[0].ptr, s[0].len, (cpr_policy *)s[1].ptr, (cpr_plan **)s[2].ptr, e); }
#define ROW_cpr_plan_read {"cpr_plan_read", call_cpr_plan_read, 1, 3, {{TEXT, 0, 0, "json"}, {SHARED, POLICY, 0, "policy"}, {OUT_HANDLE, PLAN, 0, "plan"}}}
static cpr_status call_cpr_pods_list(const struct slot *s, cpr_error **e) { return cpr_pods_list((cpr_node *)s[0].ptr, (const cpr_call *)s[1].ptr, s[1].len, (cpr_buf *)s[2].ptr, e); }
#define ROW_cpr_pods_list {"cpr_pods_list", call_cpr_pods_list, 1, 3, {{SHARED, NODE, 0, "node"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_pods_quarantine(const struct slot *s, cpr_error **e) { return cpr_pods_quarantine((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (uint64_t)s[2].number, (const cpr_call *)s[3].ptr, s[3].len, (cpr_buf *)s[4].ptr, e); }
#define ROW_cpr_pods_quarantine {"cpr_pods_quarantine", call_cpr_pods_quarantine, 1, 5, {{ALONE, NODE, 0, "node"}, {TEXT, 0, 0, "uids"}, {NUMBER, 0, 0, "flags"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_pods_undo(const struct slot *s, cpr_error **e) { return cpr_pods_undo((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (const cpr_call *)s[2].ptr, s[2].len, (cpr_buf *)s[3].ptr, e); }
#define ROW_cpr_pods_undo {"cpr_pods_undo", call_cpr_pods_undo, 1, 4, {{ALONE, NODE, 0, "node"}, {TEXT, 0, 0, "folder"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_policy_free(const struct slot *s, cpr_error **e) { (void)e; cpr_policy_free((cpr_policy *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_policy_free {"cpr_policy_free", call_cpr_policy_free, 0, 1, {{ALONE, POLICY, 0, "policy"}}}
static cpr_status call_cpr_policy_json(const struct slot *s, cpr_error **e) { return cpr_policy_json((cpr_policy *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_policy_json {"cpr_policy_json", call_cpr_policy_json, 1, 2, {{SHARED, POLICY, 0, "policy"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_policy_load(const struct slot *s, cpr_error **e) { return cpr_policy_load((const char *)s[0].ptr, s[0].len, (const cpr_policy_options *)s[1].ptr, s[1].len, (cpr_policy **)s[2].ptr, e); }
#define ROW_cpr_policy_load {"cpr_policy_load", call_cpr_policy_load, 1, 3, {{TEXT, 0, 0, "name"}, {STRUCT, POLICY_OPTIONS, sizeof(cpr_policy_options), "options"}, {OUT_HANDLE, POLICY, 0, "policy"}}}
static cpr_status call_cpr_port_holder(const struct slot *s, cpr_error **e) { return cpr_port_holder((cpr_node *)s[0].ptr, (const cpr_port *)s[1].ptr, s[1].len, (const cpr_call *)s[2].ptr, s[2].len, (cpr_buf *)s[3].ptr, e); }
#define ROW_cpr_port_holder {"cpr_port_holder", call_cpr_port_holder, 1, 4, {{SHARED, NODE, 0, "node"}, {STRUCT, PORT, sizeof(cpr_port), "port"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_recover(const struct slot *s, cpr_error **e) { return cpr_recover((cpr_node *)s[0].ptr, (cpr_policy *)s[1].ptr, (const cpr_recover_options *)s[2].ptr, s[2].len, (const cpr_call *)s[3].ptr, s[3].len, (cpr_buf *)s[4].ptr, e); }
#define ROW_cpr_recover {"cpr_recover", call_cpr_recover, 1, 5, {{ALONE, NODE, 0, "node"}, {SHARED, POLICY, 0, "policy"}, {STRUCT, RECOVER_OPTIONS, sizeof(cpr_recover_options), "options"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "report"}}}
static cpr_status call_cpr_regenerate_apply(const struct slot *s, cpr_error **e) { return cpr_regenerate_apply((cpr_node *)s[0].ptr, (cpr_regeneration *)s[1].ptr, (uint64_t)s[2].number, (const cpr_call *)s[3].ptr, s[3].len, (cpr_buf *)s[4].ptr, e); }
#define ROW_cpr_regenerate_apply {"cpr_regenerate_apply", call_cpr_regenerate_apply, 1, 5, {{ALONE, NODE, 0, "node"}, {SHARED, REGENERATION, 0, "regeneration"}, {NUMBER, 0, 0, "flags"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_regenerate_plan(const struct slot *s, cpr_error **e) { return cpr_regenerate_plan((cpr_node *)s[0].ptr, (uint64_t)s[1].number, (const cpr_regenerate_options *)s[2].ptr, s[2].len, (const cpr_call *)s[3].ptr, s[3].len, (cpr_regeneration **)s[4].ptr, e); }
#define ROW_cpr_regenerate_plan {"cpr_regenerate_plan", call_cpr_regenerate_plan, 1, 5, {{SHARED, NODE, 0, "node"}, {NUMBER, 0, 0, "components_wanted"}, {STRUCT, REGENERATE_OPTIONS, sizeof(cpr_regenerate_options), "options"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_HANDLE, REGENERATION, 0, "regeneration"}}}
static cpr_status call_cpr_regeneration_free(const struct slot *s, cpr_error **e) { (void)e; cpr_regeneration_free((cpr_regeneration *)s[0].ptr); return CPR_OK; }
#define ROW_cpr_regeneration_free {"cpr_regeneration_free", call_cpr_regeneration_free, 0, 1, {{ALONE, REGENERATION, 0, "regeneration"}}}
static cpr_status call_cpr_regeneration_json(const struct slot *s, cpr_error **e) { return cpr_regeneration_json((cpr_regeneration *)s[0].ptr, (cpr_buf *)s[1].ptr, e); }
#define ROW_cpr_regeneration_json {"cpr_regeneration_json", call_cpr_regeneration_json, 1, 2, {{SHARED, REGENERATION, 0, "regeneration"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_release(const struct slot *s, cpr_error **e) { return cpr_release((cpr_node *)s[0].ptr, (const char *)s[1].ptr, s[1].len, (const cpr_call *)s[2].ptr, s[2].len, (cpr_buf *)s[3].ptr, e); }
#define ROW_cpr_release {"cpr_release", call_cpr_release, 1, 4, {{ALONE, NODE, 0, "node"}, {TEXT, 0, 0, "name"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_status_name(const struct slot *s, cpr_error **e) { (void)e; (void)cpr_status_name((cpr_status)s[0].number); return CPR_OK; }
#define ROW_cpr_status_name {"cpr_status_name", call_cpr_status_name, 0, 1, {{NUMBER, 0, 0, "status"}}}
static cpr_status call_cpr_support_bundle(const struct slot *s, cpr_error **e) { return cpr_support_bundle((cpr_node *)s[0].ptr, (cpr_policy *)s[1].ptr, (const char *)s[2].ptr, s[2].len, (const cpr_call *)s[3].ptr, s[3].len, (cpr_buf *)s[4].ptr, e); }
#define ROW_cpr_support_bundle {"cpr_support_bundle", call_cpr_support_bundle, 1, 5, {{SHARED, NODE, 0, "node"}, {SHARED, POLICY, 0, "policy"}, {TEXT, 0, 0, "to"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_terminate(const struct slot *s, cpr_error **e) { return cpr_terminate((cpr_node *)s[0].ptr, (const cpr_port *)s[1].ptr, s[1].len, (int32_t)s[2].number, (uint64_t)s[3].number, (uint64_t)s[4].number, (const cpr_call *)s[5].ptr, s[5].len, (cpr_buf *)s[6].ptr, e); }
#define ROW_cpr_terminate {"cpr_terminate", call_cpr_terminate, 1, 7, {{ALONE, NODE, 0, "node"}, {STRUCT, PORT, sizeof(cpr_port), "port"}, {NUMBER, 0, 0, "pid"}, {NUMBER, 0, 0, "start_ticks"}, {NUMBER, 0, 0, "flags"}, {CALL, CALL, sizeof(cpr_call), "call"}, {OUT_STRUCT, 0, sizeof(cpr_buf), "json"}}}
static cpr_status call_cpr_version(const struct slot *s, cpr_error **e) { (void)s; (void)e; (void)cpr_version(); return CPR_OK; }
#define ROW_cpr_version {"cpr_version", call_cpr_version, 0, 0, {{NUMBER, 0, 0, ""}}}
static cpr_status call_cpr_watch(const struct slot *s, cpr_error **e) { return cpr_watch((cpr_node *)s[0].ptr, (cpr_policy *)s[1].ptr, (const cpr_watch_options *)s[2].ptr, s[2].len, (const cpr_call *)s[3].ptr, s[3].len, e); }
#define ROW_cpr_watch {"cpr_watch", call_cpr_watch, 1, 4, {{SHARED, NODE, 0, "node"}, {SHARED, POLICY, 0, "policy"}, {STRUCT, WATCH_OPTIONS, sizeof(cpr_watch_options), "options"}, {CALL, CALL, sizeof(cpr_call), "call"}}}
static const struct function FUNCTIONS[] = {
    ROW_cpr_abi_version,
    ROW_cpr_audit,
    ROW_cpr_backup_create,
    ROW_cpr_backup_list,
    ROW_cpr_backup_restore,
    ROW_cpr_backup_verify,
    ROW_cpr_buf_free,
    ROW_cpr_cancel_free,
    ROW_cpr_cancel_new,
    ROW_cpr_cancel_trigger,
    ROW_cpr_diagnose,
    ROW_cpr_error_code,
    ROW_cpr_error_free,
    ROW_cpr_error_message,
    ROW_cpr_error_os_error,
    ROW_cpr_etcd_check,
    ROW_cpr_etcd_snapshot,
    ROW_cpr_etcd_status,
    ROW_cpr_healthz_brief,
    ROW_cpr_healthz_parse,
    ROW_cpr_held,
    ROW_cpr_hold,
    ROW_cpr_node_cancel,
    ROW_cpr_node_free,
    ROW_cpr_node_json,
    ROW_cpr_node_open,
    ROW_cpr_observation_free,
    ROW_cpr_observation_json,
    ROW_cpr_observe,
    ROW_cpr_plan_apply,
    ROW_cpr_plan_free,
    ROW_cpr_plan_json,
    ROW_cpr_plan_new,
    ROW_cpr_plan_read,
    ROW_cpr_pods_list,
    ROW_cpr_pods_quarantine,
    ROW_cpr_pods_undo,
    ROW_cpr_policy_free,
    ROW_cpr_policy_json,
    ROW_cpr_policy_load,
    ROW_cpr_port_holder,
    ROW_cpr_recover,
    ROW_cpr_regenerate_apply,
    ROW_cpr_regenerate_plan,
    ROW_cpr_regeneration_free,
    ROW_cpr_regeneration_json,
    ROW_cpr_release,
    ROW_cpr_status_name,
    ROW_cpr_support_bundle,
    ROW_cpr_terminate,
    ROW_cpr_version,
    ROW_cpr_watch,
};
