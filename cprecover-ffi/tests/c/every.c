/* Calls every function of the header with success on the drill's broken node below ROOT, then each one that
   takes a handle or an output with NULL and with a handle that was freed. */
#include <cprecover.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define FAIL(what) (fprintf(stderr, "%s:%d: %s: %s %s\n", __FILE__, __LINE__, what, cpr_error_message(e), b.ptr ? (char *)b.ptr : ""), exit(1))
#define OK(x) do { if ((x) != CPR_OK || e != NULL) FAIL(#x); } while (0)
#define CHECK(x) do { if (!(x)) FAIL(#x); } while (0)
#define IS(x, status) do { cpr_status s_ = (x); if (s_ != (status) || cpr_error_code(e) != s_) FAIL(#x); \
    cpr_error_free(e); e = NULL; } while (0)
#define TEXT(x, schema) do { OK(x); CHECK(strlen((char *)b.ptr) == b.len); \
    CHECK(strncmp((char *)b.ptr, S("{\"schema\":\"cprecover.dev/" schema "/v1\"")) == 0); } while (0)
#define DROP() cpr_buf_free(&b)
#define S(text) text, sizeof text - 1

static int lines, dropped, told;
static void log_line(void *u, int32_t l, const char *t, size_t tn, const char *m, size_t mn) {
    (void)l; (void)t; (void)tn; (void)m; (void)mn; ++*(int *)u;
}
static void log_drop(void *u) { (void)u; dropped++; }
static int32_t event(void *u, const char *json, size_t n) {
    static const char schema[] = "{\"schema\":\"cprecover.dev/event/v1\"";
    *(int *)u += n > sizeof schema && strncmp(json, schema, sizeof schema - 1) == 0;
    return 1;
}

/* Every function that takes a handle, with these; `status` is what they must say. */
static void misuse(cpr_node *n, cpr_observation *o, cpr_policy *p, cpr_plan *l, cpr_regeneration *r, cpr_status status) {
    cpr_error *e = NULL;
    cpr_buf b;
    cpr_observation *o2; cpr_plan *l2; cpr_regeneration *r2;
    cpr_port port;
    memset(&port, 0, sizeof port);
    port.port = 1;
    IS(cpr_node_json(n, &b, &e), status);
    IS(cpr_port_holder(n, &port, sizeof port, NULL, 0, &b, &e), status);
    IS(cpr_terminate(n, &port, sizeof port, 1, 1, CPR_DRY_RUN, NULL, 0, &b, &e), status);
    IS(cpr_backup_create(n, NULL, 0, NULL, 0, &b, &e), status);
    IS(cpr_backup_list(n, &b, &e), status);
    IS(cpr_backup_verify(n, S("latest"), NULL, 0, &b, &e), status);
    IS(cpr_backup_restore(n, S("latest"), NULL, 0, NULL, 0, &b, &e), status);
    IS(cpr_hold(n, S("etcd"), S("x"), NULL, 0, &b, &e), status);
    IS(cpr_release(n, S("etcd"), NULL, 0, &b, &e), status);
    IS(cpr_held(n, &b, &e), status);
    IS(cpr_policy_json(p, &b, &e), status);
    IS(cpr_observe(n, NULL, 0, &o2, &e), status);
    IS(cpr_observation_json(o, &b, &e), status);
    IS(cpr_diagnose(o, &b, &e), status);
    IS(cpr_plan_new(o, NULL, &l2, &e), status);
    IS(cpr_plan_json(l, &b, &e), status);
    IS(cpr_plan_apply(n, l, NULL, 0, NULL, 0, &b, &e), status);
    IS(cpr_recover(n, NULL, NULL, 0, NULL, 0, &b, &e), status);
    IS(cpr_regenerate_plan(n, CPR_ETCD, NULL, 0, NULL, 0, &r2, &e), status);
    IS(cpr_regeneration_json(r, &b, &e), status);
    IS(cpr_regenerate_apply(n, r, 0, NULL, 0, &b, &e), status);
    IS(cpr_audit(n, &b, &e), status);
    IS(cpr_watch(n, NULL, NULL, 0, NULL, 0, &e), status);
    CHECK(b.ptr == NULL && b.len == 0 && o2 == NULL && l2 == NULL && r2 == NULL);
    cpr_node_cancel(n); cpr_node_free(n); cpr_observation_free(o); cpr_policy_free(p); cpr_plan_free(l);
    cpr_regeneration_free(r);
}

int main(int argc, char **argv) {
    cpr_error *e = NULL;
    cpr_buf b = {0};
    cpr_node *n; cpr_observation *o; cpr_policy *p; cpr_plan *l, *l2; cpr_regeneration *r; cpr_cancel *c;
    cpr_node_options at; cpr_port port; cpr_call call; cpr_recover_options options; cpr_health health; cpr_watch_options watch;
    cpr_regenerate_options regenerate;
    unsigned number; int pid; uint64_t ticks;
    const char *holder;
    char file[4096];
    memset(&at, 0, sizeof at); memset(&port, 0, sizeof port); memset(&call, 0, sizeof call);
    memset(&options, 0, sizeof options); memset(&watch, 0, sizeof watch); memset(&regenerate, 0, sizeof regenerate);
    if (argc < 2) return 2;
    at.root = argv[1]; at.root_len = strlen(argv[1]);
    CHECK(cpr_abi_version() == CPR_ABI_VERSION && strcmp(cpr_version(), CPR_VERSION) == 0);
    CHECK(strcmp(cpr_status_name(CPR_E_BUSY), "busy") == 0 && cpr_error_os_error(NULL) == 0);
    OK(cpr_healthz_brief(200, S("ok"), &health, &e)); CHECK(health.verdict == CPR_HEALTH_HEALTHY);
    TEXT(cpr_healthz_parse(200, S("ok"), &b, &e), "health"); DROP();
    OK(cpr_cancel_new(&c, &e));
    call.cancel = c; call.log = log_line; call.log_user = &lines; call.log_drop = log_drop; call.log_level = CPR_LOG_DEBUG;
    OK(cpr_node_open(&at, sizeof at, &n, &e));
    TEXT(cpr_node_json(n, &b, &e), "node-options"); DROP();
    OK(cpr_observe(n, &call, sizeof call, &o, &e)); CHECK(dropped == 1);
    TEXT(cpr_observation_json(o, &b, &e), "observation"); DROP();
    TEXT(cpr_diagnose(o, &b, &e), "diagnosis"); DROP();
    OK(cpr_policy_load(S("default"), NULL, 0, &p, &e));
    TEXT(cpr_policy_json(p, &b, &e), "policy"); DROP();
    OK(cpr_plan_new(o, p, &l, &e));
    TEXT(cpr_plan_json(l, &b, &e), "plan");
    OK(cpr_plan_read((char *)b.ptr, b.len, p, &l2, &e));
    holder = strstr((char *)b.ptr, "\"terminate-holder\",\"port\":");
    CHECK(holder && sscanf(holder, "\"terminate-holder\",\"port\":%u,\"process\":{\"pid\":%d,\"start_ticks\":%" SCNu64, &number, &pid, &ticks) == 3);
    DROP();
    port.port = number; port.wanted_by = CPR_ETCD;
    TEXT(cpr_port_holder(n, &port, sizeof port, &call, sizeof call, &b, &e), "port"); DROP();
    CHECK(lines > 0 && dropped == 2);
    TEXT(cpr_terminate(n, &port, sizeof port, pid, ticks, CPR_DRY_RUN, NULL, 0, &b, &e), "termination"); DROP();
    TEXT(cpr_plan_apply(n, l2, &options, sizeof options, NULL, 0, &b, &e), "recovery"); DROP();
    /* A plan is applied and nothing outside it: a node that needed one more step is healthy after this. */
    TEXT(cpr_recover(n, p, NULL, 0, NULL, 0, &b, &e), "recovery");
    CHECK(strstr((char *)b.ptr, "\"ending\":{\"state\":\"healthy\"}") != NULL); DROP();
    TEXT(cpr_audit(n, &b, &e), "audit"); DROP();
    TEXT(cpr_backup_create(n, NULL, 0, NULL, 0, &b, &e), "snapshot"); DROP();
    TEXT(cpr_backup_list(n, &b, &e), "backup-list"); DROP();
    TEXT(cpr_backup_verify(n, S("latest"), NULL, 0, &b, &e), "backup-report"); DROP();
    TEXT(cpr_backup_restore(n, S("latest"), NULL, 0, NULL, 0, &b, &e), "restore"); DROP();
    TEXT(cpr_hold(n, S("kube-scheduler"), S("test"), NULL, 0, &b, &e), "held"); DROP();
    TEXT(cpr_held(n, &b, &e), "held"); CHECK(strstr((char *)b.ptr, "kube-scheduler") != NULL); DROP();
    TEXT(cpr_release(n, S("kube-scheduler"), NULL, 0, &b, &e), "held"); DROP();
    regenerate.flags = CPR_DRY_RUN;
    IS(cpr_regenerate_plan(n, CPR_KUBE_SCHEDULER, &regenerate, sizeof regenerate, NULL, 0, &r, &e), CPR_E_UNSUPPORTED);
    regenerate.flags = CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED;
    regenerate.config = "kind: ["; regenerate.config_len = 7;
    IS(cpr_regenerate_plan(n, CPR_KUBE_SCHEDULER, &regenerate, sizeof regenerate, NULL, 0, &r, &e), CPR_E_INVALID);
    regenerate.config = NULL; regenerate.config_len = 0;
    regenerate.assume_defaults = "scheduler.extraArgs"; regenerate.assume_defaults_len = 19;
    OK(cpr_regenerate_plan(n, CPR_KUBE_SCHEDULER, &regenerate, sizeof regenerate, NULL, 0, &r, &e));
    TEXT(cpr_regeneration_json(r, &b, &e), "regeneration-plan"); DROP();
    TEXT(cpr_regenerate_apply(n, r, CPR_ACCEPT_REGENERATED_CHANGES | CPR_ACCEPT_WITHOUT_COMPARISON, NULL, 0, &b, &e), "regeneration"); DROP();
    TEXT(cpr_pods_list(n, NULL, 0, &b, &e), "pods"); DROP();
    IS(cpr_pods_quarantine(n, S("no-such-pod"), 0, NULL, 0, &b, &e), CPR_E_REFUSED);
    IS(cpr_pods_undo(n, S("no-such-folder"), NULL, 0, &b, &e), CPR_E_NOT_FOUND);
    snprintf(file, sizeof file, "%s/bundle.tar", argv[1]);
    TEXT(cpr_support_bundle(n, p, file, strlen(file), NULL, 0, &b, &e), "support-bundle"); DROP();
    TEXT(cpr_etcd_check(n, NULL, 0, NULL, 0, &b, &e), "etcd-check"); DROP();
    CHECK(cpr_etcd_status(n, NULL, 0, &b, &e) != CPR_OK || b.len > 0); cpr_buf_free(&b); cpr_error_free(e); e = NULL;
    IS(cpr_etcd_snapshot(n, file, strlen(file), NULL, 0, &b, &e), CPR_E_ALREADY_EXISTS);
    watch.every_ms = 1000; watch.event = event; watch.event_user = &told;
    OK(cpr_watch(n, p, &watch, sizeof watch, NULL, 0, &e)); CHECK(told == 1);
    cpr_node_cancel(n); cpr_cancel_trigger(c);
    call.cancel = c;
    IS(cpr_port_holder(n, &port, sizeof port, &call, sizeof call, &b, &e), CPR_E_CANCELLED);
    IS(cpr_plan_json((cpr_plan *)(void *)n, &b, &e), CPR_E_HANDLE);
    cpr_cancel_free(c); cpr_node_free(n); cpr_observation_free(o); cpr_policy_free(p); cpr_plan_free(l); cpr_plan_free(l2);
    cpr_regeneration_free(r);
    misuse(n, o, p, l, r, CPR_E_HANDLE);
    misuse(NULL, NULL, NULL, NULL, NULL, CPR_E_ARGUMENT);
    puts("{\"ending\":{\"state\":\"healthy\"}}");
    return 0;
}
