/* The misuse matrix: every exported function with each argument NULL, empty, huge, of a wrong size, freed,
   of another type or made up, while the node is busy, and after its handles were freed. Nothing may crash;
   each call must say what was wrong, clear its output and hand out exactly one error.
   Usage: misuse ROOT (an empty folder) */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <cprecover.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum kind { SHARED, ALONE, TEXT, STRUCT, CALL, NUMBER, OUT_HANDLE, OUT_STRUCT };
enum type { NODE, CANCEL, ERROR, POLICY, OBSERVATION, PLAN, REGENERATION, TYPES,
    NODE_OPTIONS, CALL_, PORT, BACKUP_OPTIONS, RESTORE_OPTIONS, RECOVER_OPTIONS, POLICY_OPTIONS, REGENERATE_OPTIONS,
    WATCH_OPTIONS };
struct slot { void *ptr; size_t len; uint64_t number; };
struct parameter { enum kind kind; int type; size_t size; const char *name; };
#define MAX 12
struct function {
    const char *name;
    cpr_status (*call)(const struct slot *, cpr_error **);
    int can_fail, count;
    struct parameter parameters[MAX];
};
#include "misuse_calls.h"
#define COUNT ((int)(sizeof FUNCTIONS / sizeof FUNCTIONS[0]))
#define ANY 1000 /* Any status is fine. */
#define FAILS 1001 /* Any failure is fine. */

/* Live handles, and freed ones, by type. */
static void *live[TYPES], *dead[TYPES];
static cpr_cancel *triggered;
static char plan_text[1 << 16];
static long calls;
static int drops, lines;

static void die(const struct function *f, const char *what, long detail) {
    fprintf(stderr, "%s: %s (%ld)\n", f ? f->name : "set-up", what, detail);
    exit(1);
}
static void log_line(void *u, int32_t l, const char *t, size_t tn, const char *m, size_t mn) {
    (void)u; (void)l; (void)t; (void)tn; (void)m; (void)mn; lines++;
}
static void log_drop(void *u) { (void)u; drops++; }
static int32_t event(void *u, const char *j, size_t n) { (void)u; (void)j; (void)n; return 0; }

/* Structs that are right; larger than ours, so that a longer size can be told. */
static union options {
    cpr_node_options node; cpr_call call; cpr_port port; cpr_backup_options backup; cpr_restore_options restore;
    cpr_recover_options recover; cpr_policy_options policy; cpr_regenerate_options regenerate; cpr_watch_options watch; unsigned char bytes[8192];
} options[WATCH_OPTIONS + 1];
static union { cpr_buf buf; cpr_health health; void *handle; unsigned char bytes[256]; } out;
static char root[4096], new_file[4200];

static void right(const struct function *f, struct slot *s) {
    for (int i = 0; i < f->count; i++) {
        const struct parameter *p = &f->parameters[i];
        s[i].ptr = NULL; s[i].len = 0; s[i].number = 0;
        switch (p->kind) {
        case SHARED: case ALONE: s[i].ptr = live[p->type]; break;
        case STRUCT: s[i].ptr = &options[p->type]; s[i].len = p->size; break;
        case OUT_HANDLE: case OUT_STRUCT: s[i].ptr = &out; break;
        case NUMBER:
            s[i].number = strcmp(p->name, "components_wanted") == 0 || strcmp(p->name, "pid") == 0 || strcmp(p->name, "start_ticks") == 0;
            break;
        case TEXT:
            if (strcmp(p->name, "json") == 0) s[i].ptr = plan_text;
            else if (strcmp(p->name, "id") == 0) s[i].ptr = (void *)"latest";
            else if (strcmp(f->name, "cpr_policy_load") == 0) s[i].ptr = (void *)"observe-only";
            else if (strcmp(p->name, "to") == 0) s[i].ptr = new_file;
            else s[i].ptr = (void *)"etcd";
            s[i].len = strlen((char *)s[i].ptr);
            break;
        default: s[i].ptr = &options[CALL_]; s[i].len = p->size;
        }
    }
}

/* Frees what a call that succeeded made. */
static void take(const struct function *f) {
    for (int i = 0; i < f->count; i++) {
        const struct parameter *p = &f->parameters[i];
        if (p->kind == OUT_STRUCT && p->size == sizeof(cpr_buf)) cpr_buf_free(&out.buf);
        if (p->kind != OUT_HANDLE) continue;
        switch (p->type) {
        case NODE: cpr_node_free((cpr_node *)out.handle); break;
        case CANCEL: cpr_cancel_free((cpr_cancel *)out.handle); break;
        case POLICY: cpr_policy_free((cpr_policy *)out.handle); break;
        case OBSERVATION: cpr_observation_free((cpr_observation *)out.handle); break;
        case PLAN: cpr_plan_free((cpr_plan *)out.handle); break;
        case REGENERATION: cpr_regeneration_free((cpr_regeneration *)out.handle); break;
        default: die(f, "makes a handle that the matrix does not free", p->type);
        }
    }
}

/* One call; what it says must be `want`. */
static void expect(const struct function *f, const struct slot *s, cpr_status want, const char *how) {
    char what[200];
    cpr_error *e = (cpr_error *)(void *)&out; /* Rubbish, as a variable has it. */
    int has_out = 0, has_call = 0, dropped = drops;
    size_t size = 0;
    for (int i = 0; i < f->count; i++) {
        const struct parameter *p = &f->parameters[i];
        if (p->kind == OUT_HANDLE || p->kind == OUT_STRUCT) { has_out = s[i].ptr != NULL; size = p->kind == OUT_HANDLE ? sizeof(void *) : p->size; }
        if (p->kind == CALL) has_call = s[i].ptr == &options[CALL_] && s[i].len == p->size;
    }
    memset(&out, 0xa5, sizeof out);
    calls++;
    cpr_status status = f->call(s, &e);
    snprintf(what, sizeof what, "%s, wanted %d", how, want);
    if (!f->can_fail) return;
    if (want == FAILS ? status >= 0 : want != ANY && status != want) die(f, what, status);
    if (status > 0 || status < CPR_E_INTERNAL || status == CPR_E_PANIC) die(f, what, status);
    if (has_call && drops != dropped + 1) die(f, "log_drop was not called once", drops - dropped);
    if ((status == CPR_OK) != (e == NULL)) die(f, "an error exactly on failure", status);
    if (status == CPR_OK) { take(f); return; }
    if (cpr_error_code(e) != status || strlen(cpr_error_message(e)) == 0) die(f, "the error says something else", status);
    cpr_error_free(e);
    for (size_t i = 0; has_out && i < size; i++) if (out.bytes[i] != 0) die(f, "the output is not cleared", (long)i);
    /* Without a place for the error. */
    calls++;
    if (want != ANY && f->call(s, NULL) != status) die(f, "says something else without a place for the error", status);
}

static int can_be_right(const struct function *f) {
    for (int i = 0; i < f->count; i++)
        if ((f->parameters[i].kind == SHARED || f->parameters[i].kind == ALONE) && live[f->parameters[i].type] == NULL) return 0;
    return 1;
}

static void arguments(const struct function *f) {
    struct slot s[MAX], good;
    static const size_t huge[] = {(size_t)-1, (size_t)-1 / 2 + 1, (size_t)-8};
    int sure = can_be_right(f);
#define WANT(status) (sure ? (status) : FAILS)
    right(f, s);
    expect(f, s, sure ? ANY : FAILS, "as it should be");
    for (int i = 0; i < f->count; i++) {
        const struct parameter *p = &f->parameters[i];
        good = s[i];
        switch (p->kind) {
        case SHARED: case ALONE:
            /* The policy may be NULL: the default one. */
            s[i].ptr = NULL; expect(f, s, p->type == POLICY && strcmp(f->name, "cpr_policy_json") != 0 ? ANY : WANT(CPR_E_ARGUMENT), "NULL handle");
            s[i].ptr = dead[p->type]; expect(f, s, WANT(CPR_E_HANDLE), "freed handle");
            s[i].ptr = (void *)(uintptr_t)0xdeadbeef; expect(f, s, WANT(CPR_E_HANDLE), "made-up handle");
            s[i].ptr = &out; expect(f, s, WANT(CPR_E_HANDLE), "address of a variable");
            s[i].ptr = (char *)live[CANCEL] + 1; expect(f, s, WANT(CPR_E_HANDLE), "address beside a handle");
            for (int t = 0; t < TYPES; t++)
                if (t != p->type && live[t]) { s[i].ptr = live[t]; expect(f, s, WANT(CPR_E_HANDLE), "handle of another type"); }
            break;
        case TEXT:
            s[i].ptr = NULL; s[i].len = 0; expect(f, s, ANY, "empty text");
            s[i].len = 1; expect(f, s, WANT(CPR_E_ARGUMENT), "NULL text with a length");
            s[i].ptr = (void *)"x"; s[i].len = 0; expect(f, s, ANY, "text of length 0");
            for (int h = 0; h < 3; h++) { s[i].len = huge[h]; expect(f, s, WANT(CPR_E_ARGUMENT), "huge text"); }
            s[i].ptr = (void *)"a\0b/../\xff\xfe"; s[i].len = 9; expect(f, s, ANY, "bytes that are no text");
            break;
        case STRUCT: case CALL: {
            unsigned char *bytes = options[p->kind == CALL ? CALL_ : p->type].bytes;
            s[i].ptr = NULL; expect(f, s, WANT(CPR_E_ARGUMENT), "NULL struct with a size");
            /* Nothing is bounded then; what takes long is not called. */
            s[i].len = 0;
            if (strcmp(f->name, "cpr_observe") != 0 && strcmp(f->name, "cpr_recover") != 0 && strcmp(f->name, "cpr_plan_apply") != 0 && strcmp(f->name, "cpr_support_bundle") != 0 && (strcmp(f->name, "cpr_watch") != 0 || p->kind != CALL))
                expect(f, s, ANY, "no struct");
            s[i] = good; s[i].len = 4104; expect(f, s, WANT(CPR_E_ARGUMENT), "struct that is too large");
            for (int h = 0; h < 3; h++) { s[i].len = huge[h]; expect(f, s, WANT(CPR_E_ARGUMENT), "huge struct"); }
            for (size_t size = 8; size <= p->size; size++) { s[i].len = size; expect(f, s, size % 8 == 0 ? ANY : WANT(CPR_E_ARGUMENT), "shorter struct"); }
            s[i].len = p->size + 64; expect(f, s, ANY, "longer struct");
            bytes[p->size + 63] = 1; expect(f, s, WANT(CPR_E_UNSUPPORTED), "unknown option"); bytes[p->size + 63] = 0;
            if (p->kind != CALL && p->type != WATCH_OPTIONS) { /* No callbacks of ones. */
                unsigned char copy[256];
                memcpy(copy, bytes, p->size); s[i].len = p->size;
                memset(bytes, 0xff, p->size); expect(f, s, WANT(FAILS), "struct of ones");
                memset(bytes, 0, p->size); if (p->type != RECOVER_OPTIONS) expect(f, s, ANY, "struct of zeros");
                memcpy(bytes, copy, p->size);
            } else if (p->kind == CALL) {
                cpr_call *call = &options[CALL_].call, keep = *call;
                s[i].len = p->size;
                call->cancel = (cpr_cancel *)dead[CANCEL]; expect(f, s, WANT(CPR_E_HANDLE), "freed cancel");
                call->cancel = (cpr_cancel *)live[NODE]; expect(f, s, WANT(CPR_E_HANDLE), "cancel of another type");
                call->cancel = keep.cancel;
                call->log_level = 6; expect(f, s, WANT(CPR_E_ARGUMENT), "level 6");
                call->log_level = -1; expect(f, s, WANT(CPR_E_ARGUMENT), "level -1");
                call->log_level = keep.log_level;
                call->reserved = 1; expect(f, s, WANT(CPR_E_UNSUPPORTED), "reserved field"); call->reserved = 0;
                call->timeout_ms = UINT64_MAX; expect(f, s, ANY, "time without end");
                *call = keep;
            }
            break;
        }
        case NUMBER:
            s[i].number = 0; expect(f, s, ANY, "zero");
            s[i].number = UINT64_MAX; expect(f, s, ANY, "all ones");
            s[i].number = INT64_MAX; expect(f, s, ANY, "the largest");
            s[i].number = (uint64_t)1 << 31; expect(f, s, ANY, "the smallest int32_t");
            if (strcmp(p->name, "flags") == 0) { s[i].number = (uint64_t)1 << 63; expect(f, s, WANT(CPR_E_UNSUPPORTED), "unknown flag"); }
            break;
        default:
            s[i].ptr = NULL; expect(f, s, WANT(CPR_E_ARGUMENT), "NULL output");
        }
        s[i] = good;
    }
}

/* Calls every function that takes the node while a call runs on it. */
static int runs_alone, was_busy;
static void busy(void *u, int32_t l, const char *t, size_t tn, const char *m, size_t mn) {
    struct slot s[MAX];
    (void)u; (void)l; (void)t; (void)tn; (void)m; (void)mn;
    if (was_busy++) return;
    for (int i = 0; i < COUNT; i++) {
        const struct function *f = &FUNCTIONS[i];
        int first = f->count > 0 ? (int)f->parameters[0].kind : -1;
        if (!f->can_fail || f->parameters[0].type != NODE || (first != SHARED && first != ALONE) || !can_be_right(f)) continue;
        right(f, s);
        if (runs_alone || first == ALONE) expect(f, s, CPR_E_BUSY, "while a call runs");
        else expect(f, s, ANY, "beside another call");
    }
}
static void while_busy(int port, int alone) {
    cpr_error *e = NULL;
    cpr_buf b;
    cpr_call call;
    cpr_port question;
    memset(&call, 0, sizeof call); memset(&question, 0, sizeof question);
    call.log = busy; call.log_level = CPR_LOG_TRACE;
    question.port = (uint32_t)port;
    runs_alone = alone; was_busy = 0;
    cpr_status status = alone ? cpr_terminate((cpr_node *)live[NODE], &question, sizeof question, 1, 1, CPR_DRY_RUN, &call, sizeof call, &b, &e)
                              : cpr_port_holder((cpr_node *)live[NODE], &question, sizeof question, &call, sizeof call, &b, &e);
    if (was_busy == 0) die(NULL, "the call logged nothing, so nothing was tried while it ran", status);
    cpr_buf_free(&b); cpr_error_free(e);
}

/* Frees the node in the middle of a call on it: the call ends as if nothing had happened. */
static void free_node(void *u, int32_t l, const char *t, size_t tn, const char *m, size_t mn) {
    (void)l; (void)t; (void)tn; (void)m; (void)mn; cpr_node_free((cpr_node *)u); was_busy++;
}
static void freed_while_busy(int port) {
    cpr_call call;
    cpr_port question;
    cpr_buf b;
    cpr_node *n;
    if (cpr_node_open(&options[NODE_OPTIONS].node, sizeof(cpr_node_options), &n, NULL) != CPR_OK) die(NULL, "open", 0);
    memset(&call, 0, sizeof call); memset(&question, 0, sizeof question);
    call.log = free_node; call.log_user = n; call.log_level = CPR_LOG_TRACE; question.port = (uint32_t)port;
    was_busy = 0;
    cpr_status status = cpr_port_holder(n, &question, sizeof question, &call, sizeof call, &b, NULL);
    if (status != CPR_OK || was_busy == 0) die(NULL, "a node that is freed while a call runs", status);
    cpr_buf_free(&b);
    if (cpr_node_json(n, &b, NULL) != CPR_E_HANDLE) die(NULL, "a node that was freed in a call is live", 0);
}

static void make(void **handles) {
    cpr_call *call = NULL;
    if (cpr_node_open(&options[NODE_OPTIONS].node, sizeof(cpr_node_options), (cpr_node **)&handles[NODE], NULL) != CPR_OK
        || cpr_cancel_new((cpr_cancel **)&handles[CANCEL], NULL) != CPR_OK
        || cpr_policy_load("observe-only", 12, NULL, 0, (cpr_policy **)&handles[POLICY], NULL) != CPR_OK
        || cpr_observe((cpr_node *)handles[NODE], call, 0, (cpr_observation **)&handles[OBSERVATION], NULL) != CPR_OK
        || cpr_plan_new((cpr_observation *)handles[OBSERVATION], (cpr_policy *)handles[POLICY], (cpr_plan **)&handles[PLAN], NULL) != CPR_OK
        || cpr_plan_json(NULL, &out.buf, (cpr_error **)&handles[ERROR]) != CPR_E_ARGUMENT) die(NULL, "no live handles", 0);
}
static void free_all(void **handles) {
    for (int twice = 0; twice < 2; twice++) {
        cpr_node_free((cpr_node *)handles[NODE]); cpr_cancel_free((cpr_cancel *)handles[CANCEL]);
        cpr_policy_free((cpr_policy *)handles[POLICY]); cpr_observation_free((cpr_observation *)handles[OBSERVATION]);
        cpr_plan_free((cpr_plan *)handles[PLAN]); cpr_error_free((cpr_error *)handles[ERROR]);
        cpr_regeneration_free((cpr_regeneration *)handles[REGENERATION]);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (argc != 2) return 2;
    snprintf(root, sizeof root, "%s", argv[1]);
    snprintf(new_file, sizeof new_file, "%s/new", root);
    options[NODE_OPTIONS].node.root = root; options[NODE_OPTIONS].node.root_len = strlen(root);
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET; at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1) != 0
        || getsockname(listener, (struct sockaddr *)&at, &length) != 0) die(NULL, "no port", 0);
    make(dead);
    free_all(dead);
    make(live);
    if (cpr_plan_json((cpr_plan *)live[PLAN], &out.buf, NULL) != CPR_OK || out.buf.len >= sizeof plan_text) die(NULL, "no plan", 0);
    memcpy(plan_text, out.buf.ptr, out.buf.len);
    cpr_buf_free(&out.buf);
    /* Every longer call is cancelled before it does anything: what is tried here is the boundary. */
    if (cpr_cancel_new(&triggered, NULL) != CPR_OK) die(NULL, "no cancel", 0);
    cpr_cancel_trigger(triggered);
    options[CALL_].call.timeout_ms = 1; options[CALL_].call.cancel = triggered;
    options[CALL_].call.log = log_line; options[CALL_].call.log_drop = log_drop; options[CALL_].call.log_level = CPR_LOG_TRACE;
    options[PORT].port.port = 1;
    options[WATCH_OPTIONS].watch.event = event;
    options[RECOVER_OPTIONS].recover.flags = CPR_DRY_RUN;
    for (int i = 0; i < COUNT; i++) {
        const char *name = FUNCTIONS[i].name;
        size_t end = strlen(name);
        /* Freeing is tried last, with handles that need not live on. */
        if (end > 5 && strcmp(name + end - 5, "_free") == 0) continue;
        arguments(&FUNCTIONS[i]);
    }
    while_busy(ntohs(at.sin_port), 1);
    while_busy(ntohs(at.sin_port), 0);
    freed_while_busy(ntohs(at.sin_port));
    for (int i = 0; i < COUNT; i++) {
        const struct function *f = &FUNCTIONS[i];
        size_t end = strlen(f->name);
        struct slot s[MAX];
        if (end <= 5 || strcmp(f->name + end - 5, "_free") != 0 || strcmp(f->name, "cpr_buf_free") == 0) continue;
        right(f, s);
        s[0].ptr = NULL; f->call(s, NULL);
        s[0].ptr = dead[f->parameters[0].type]; f->call(s, NULL);
        s[0].ptr = (void *)(uintptr_t)0xdeadbeef; f->call(s, NULL);
        s[0].ptr = &out; f->call(s, NULL);
        for (int t = 0; t < TYPES; t++) if (t != f->parameters[0].type) { s[0].ptr = live[t]; f->call(s, NULL); }
        calls += 11;
    }
    {   /* A copy of a buffer is freed once; rubbish where the library's part is, is not. */
        cpr_buf b, copy;
        if (cpr_node_json((cpr_node *)live[NODE], &b, NULL) != CPR_OK) die(NULL, "a wrong free hit a live node", 0);
        copy = b;
        cpr_buf_free(&b); cpr_buf_free(&b); cpr_buf_free(&copy); cpr_buf_free(NULL);
        memset(&b, 0xa5, sizeof b); cpr_buf_free(&b);
        if (b.ptr != NULL) die(NULL, "a freed buffer is not empty", 0);
    }
    free_all(live);
    cpr_cancel_free(triggered);
    close(listener);
    printf("misuse ok: %d functions, %ld calls\n", COUNT, calls);
    return 0;
}
