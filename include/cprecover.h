/*
 * cprecover: brings a kubeadm-style Kubernetes control-plane node back when kubectl no longer answers.
 *
 * Generated; do not edit. The contract, for every function:
 *
 * Names     cpr_noun_verb; the receiver first, then inputs, outputs, and `err` last.
 * Status    0 is success, negative codes are CPR_E_*; codes are never reused. Any call may return
 *           CPR_E_PANIC, CPR_E_ARGUMENT, CPR_E_HANDLE, CPR_E_BUSY and CPR_E_UNSUPPORTED.
 * Errors    `err` may be NULL. Otherwise *err is NULL after success and an error object after failure,
 *           which the caller frees with cpr_error_free. Nothing is kept per thread, so the error may be
 *           read on another thread than the call ran on.
 * Outputs   are set to NULL or zero on entry and written only on success; they may not be NULL.
 * Ownership `T **out` hands a handle to the caller, who frees it with cpr_T_free; a cpr_buf is freed with
 *           cpr_buf_free; nothing is freed with free(3). Freeing NULL does nothing. Using or freeing a
 *           handle that was freed is CPR_E_HANDLE or nothing, not undefined, unless its address was given
 *           out again (not before 256 more frees).
 * Strings   are pointer and length, borrowed for the call; NULL with length 0 is empty. Paths are bytes,
 *           everything else is UTF-8.
 * Options   are structs with their size, NULL with size 0 for defaults. Zero them before use: zero is the
 *           default. A shorter (older) struct is filled with zeros; a longer (newer) one is fine as long
 *           as what this version does not know is zero, CPR_E_UNSUPPORTED otherwise; so are unknown flags.
 *           A size that no struct can have (beyond 4096, or in the middle of a field) is CPR_E_ARGUMENT.
 * Threads   A const handle may be used by many calls at once. A handle that is not const is used alone:
 *           while such a call runs, any other call on the handle returns CPR_E_BUSY, and so does such a
 *           call while others run. Cancelling and freeing are allowed at any time from any thread.
 *           Children of fork may use the library only after exec.
 * Callbacks are a function, a pointer that is handed to it, and a function that frees the pointer. They
 *           are called on the calling thread, during the call. They must not unwind or longjmp. They may
 *           call the library; such calls have no log of their own.
 * Panics    A bug in the library is CPR_E_PANIC; the handles of that call are poisoned: every later call
 *           on them returns CPR_E_PANIC, freeing them is all that is left.
 * Process   The library keeps no settings, installs no signal handlers, reads no environment, prints
 *           nothing (but Rust's panic message), and leaves no threads behind.
 * JSON      Results name their schema first: {"schema":"cprecover.dev/<thing>/v1", ...}; include/schema has
 *           the JSON Schema of each. Fields may be added; a field that changes its meaning makes a v2.
 */

#ifndef CPRECOVER_H
#define CPRECOVER_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header. */
#define CPR_VERSION "0.1.0"
#define CPR_VERSION_MAJOR 0
#define CPR_VERSION_MINOR 1
#define CPR_VERSION_PATCH 0

/*
 The ABI's number, the `0` of `libcprecover.so.0`. Additions do not change it.
 */
#define CPR_ABI_VERSION 0

/*
 etcd.
 */
#define CPR_ETCD 1

/*
 kube-apiserver.
 */
#define CPR_KUBE_APISERVER 2

/*
 kube-controller-manager.
 */
#define CPR_KUBE_CONTROLLER_MANAGER 4

/*
 kube-scheduler.
 */
#define CPR_KUBE_SCHEDULER 8

/*
 kubelet's static-pod manifests.
 */
#define CPR_GROUP_MANIFESTS 1

/*
 Certificates and keys.
 */
#define CPR_GROUP_PKI 2

/*
 `admin.conf`, `kubelet.conf`, ...
 */
#define CPR_GROUP_KUBECONFIGS 4

/*
 kubeadm's configuration and patches.
 */
#define CPR_GROUP_KUBEADM 8

/*
 kubelet's configuration.
 */
#define CPR_GROUP_KUBELET 16

/*
 Something failed.
 */
#define CPR_LOG_ERROR 1

/*
 Something is odd.
 */
#define CPR_LOG_WARN 2

/*
 What was done.
 */
#define CPR_LOG_INFO 3

/*
 How it was done.
 */
#define CPR_LOG_DEBUG 4

/*
 Everything.
 */
#define CPR_LOG_TRACE 5

/*
 Nothing could be read as a health answer.
 */
#define CPR_HEALTH_UNKNOWN 0

/*
 It says that it is healthy.
 */
#define CPR_HEALTH_HEALTHY 1

/*
 It says that it is not.
 */
#define CPR_HEALTH_UNHEALTHY 2

/*
 It is alive, but says nothing about its health (401, 403, 404, ...).
 */
#define CPR_HEALTH_UNDETERMINED 3

/*
 Says what would be done and changes nothing.
 */
#define CPR_DRY_RUN 1

/*
 The caller verified the node's health just now: the snapshot is a last known good.
 */
#define CPR_BACKUP_HEALTH_VERIFIED 2

/*
 No new snapshot when nothing has changed since the newest one, which is returned then.
 */
#define CPR_BACKUP_IF_CHANGED 4

/*
 Also removes files that the snapshot does not have.
 */
#define CPR_RESTORE_EXACT 8

/*
 Also restores manifests that are held, and ends their hold.
 */
#define CPR_RESTORE_REPLACE_HELD 16

/*
 Also restores what is of another node, which holds that node's name and addresses, or of another cluster
 by its CA.
 */
#define CPR_RESTORE_OTHER_NODE 32

/*
 The caller agrees to installing regenerated manifests that need a review.
 */
#define CPR_ACCEPT_REGENERATED_CHANGES 2

/*
 The caller agrees to acting on an etcd member although the quorum is not known.
 */
#define CPR_ACCEPT_UNKNOWN_QUORUM 4

/*
 The caller agrees to renewing certificates.
 */
#define CPR_ACCEPT_RENEWED_CERTIFICATES 8

/*
 The caller accepts a component that no known good manifest can be compared with.
 */
#define CPR_ACCEPT_WITHOUT_COMPARISON 16

/*
 A healthy member has just removed this etcd member and added it again: it may start without data.
 */
#define CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED 32

/*
 Every folder that nobody knows.
 */
#define CPR_PODS_ALL_LEFTOVER 1

/*
 An outage is recovered from, as far as the policy goes.
 */
#define CPR_WATCH_RECOVER 1

/*
 Ends the calls that were given it (`cpr_call.cancel`), from any thread. Once triggered it stays so:
 a call that is given it later ends at once.
 */
typedef struct cpr_cancel cpr_cancel;

/*
 Why a call failed. Belongs to the caller, who frees it with `cpr_error_free`; any thread may.
 */
typedef struct cpr_error cpr_error;

/*
 One control-plane node: where its files are, how its services are controlled.
 */
typedef struct cpr_node cpr_node;

/*
 A node as it was seen at one moment.
 */
typedef struct cpr_observation cpr_observation;

/*
 What would be done, in order, with the policy that decided.
 */
typedef struct cpr_plan cpr_plan;

/*
 Decides when to act; sandboxed WebAssembly, or shipped rules.
 */
typedef struct cpr_policy cpr_policy;

/*
 Manifests that kubeadm rendered into a staging folder, compared and checked.
 */
typedef struct cpr_regeneration cpr_regeneration;

/*
 What a call returns: 0 for success, one of the negative `CPR_E_*` codes otherwise. Positive values
 are reserved. Codes are never reused or renumbered; a new version may return new ones.
 */
typedef int32_t cpr_status;

/*
 Bytes that belong to the caller: `len` bytes at `ptr`, followed by a NUL that `len` does not count.
 Freed with `cpr_buf_free`, never with `free`. All zero when there is nothing.
 */
typedef struct cpr_buf {
    /*
     The bytes; NULL when there are none to free.
     */
    uint8_t *ptr;
    /*
     How many, without the NUL.
     */
    size_t len;
    /*
     For the library.
     */
    void *reserved;
} cpr_buf;

/*
 Which node. All zero, or NULL with size 0, is this machine.
 */
typedef struct cpr_node_options {
    /*
     The node's file system root, absolute; `/` when empty.
     */
    const char *root;
    /*
     Its length in bytes.
     */
    size_t root_len;
    /*
     The node's configuration, YAML or JSON, as `/etc/cprecover/config.yaml` has it; that file below
     the root is read when empty.
     */
    const char *config;
    /*
     Its length in bytes.
     */
    size_t config_len;
    /*
     Must be 0.
     */
    uint64_t flags;
} cpr_node_options;

/*
 A health answer in brief.
 */
typedef struct cpr_health {
    /*
     `CPR_HEALTH_*`.
     */
    int32_t verdict;
    /*
     How many checks it reports.
     */
    uint32_t checks;
    /*
     How many of them failed.
     */
    uint32_t failed;
    /*
     Whether the check named `etcd` failed: 0 or 1.
     */
    uint32_t etcd_failed;
} cpr_health;

/*
 Which port is asked about.
 */
typedef struct cpr_port {
    /*
     The TCP port, 1 to 65535.
     */
    uint32_t port;
    /*
     Must be 0.
     */
    uint32_t reserved;
    /*
     The address that somebody wants to bind, as text (`127.0.0.1`, `::1`); any when empty.
     */
    const char *address;
    /*
     Its length in bytes.
     */
    size_t address_len;
    /*
     The one component whose port it should be (`CPR_ETCD`, ...); the manifests tell when 0.
     */
    uint64_t wanted_by;
} cpr_port;

/*
 Gets a log line: its level (`CPR_LOG_*`), the part of the library that wrote it, and the text. The
 strings are UTF-8, not NUL-terminated, and valid during the call only.
 */
typedef void (*cpr_log_fn)(void *user,
                           int32_t level,
                           const char *target,
                           size_t target_len,
                           const char *message,
                           size_t message_len);

/*
 Frees what belongs to a callback.
 */
typedef void (*cpr_drop_fn)(void *user);

/*
 How one call is bounded and watched. All zero, or NULL with size 0, is the default.
 */
typedef struct cpr_call {
    /*
     How long the call may take, in milliseconds; 0 for the function's own default.
     */
    uint64_t timeout_ms;
    /*
     Ends the call early; may be NULL. It may be freed while the call runs.
     */
    const struct cpr_cancel *cancel;
    /*
     Gets the call's log lines, on the calling thread; may be NULL. A call that is made in it has no
     log of its own.
     */
    cpr_log_fn log;
    /*
     Handed to `log` and `log_drop`.
     */
    void *log_user;
    /*
     Called once with `log_user` before the call returns, whatever it returns, when `log` or
     `log_drop` is given and the struct itself could be read; may be NULL.
     */
    cpr_drop_fn log_drop;
    /*
     The least important level that `log` gets (`CPR_LOG_*`); 0 is `CPR_LOG_INFO`.
     */
    int32_t log_level;
    /*
     Must be 0.
     */
    int32_t reserved;
} cpr_call;

/*
 What a snapshot covers.
 */
typedef struct cpr_backup_options {
    /*
     `CPR_BACKUP_*`.
     */
    uint64_t flags;
    /*
     `CPR_GROUP_*`; the manifests when 0.
     */
    uint64_t groups;
    /*
     Why it is made, UTF-8; `manual` when empty.
     */
    const char *reason;
    /*
     Its length in bytes.
     */
    size_t reason_len;
} cpr_backup_options;

/*
 What of a snapshot is restored, and how.
 */
typedef struct cpr_restore_options {
    /*
     `CPR_RESTORE_*` and `CPR_DRY_RUN`.
     */
    uint64_t flags;
    /*
     Only these groups (`CPR_GROUP_*`); all when 0. Not together with `components`.
     */
    uint64_t groups;
    /*
     Only the manifests of these components (`CPR_ETCD`, ...).
     */
    uint64_t components;
    /*
     A folder of the node to restore below, instead of in place; in place when empty.
     */
    const char *below;
    /*
     Its length in bytes.
     */
    size_t below_len;
} cpr_restore_options;

/*
 How a policy is trusted and where it is compiled already. All zero for a shipped one.
 */
typedef struct cpr_policy_options {
    /*
     The digest that a file must have, 64 hex digits; any when empty.
     */
    const char *sha256;
    /*
     Its length in bytes.
     */
    size_t sha256_len;
    /*
     A public key (ed25519, PEM): a file is loaded only with a `FILE.sig` by it.
     */
    const char *key;
    /*
     Its length in bytes.
     */
    size_t key_len;
    /*
     The folder of compiled policies, where `cprecover policy install` put them: what lies there is not
     compiled again. `/var/lib/cprecover/policy-cache` on a node with the default store.
     */
    const char *cache;
    /*
     Its length in bytes.
     */
    size_t cache_len;
} cpr_policy_options;

/*
 What the caller agrees to.
 */
typedef struct cpr_recover_options {
    /*
     `CPR_DRY_RUN` and `CPR_ACCEPT_*`.
     */
    uint64_t flags;
    /*
     How long the node may take to become healthy after the last effect, in milliseconds; 0 for 90 s.
     */
    uint64_t settle_ms;
} cpr_recover_options;

/*
 What the caller knows of the node's kubeadm config.
 */
typedef struct cpr_regenerate_options {
    /*
     `CPR_REGENERATE_*`.
     */
    uint64_t flags;
    /*
     A kubeadm config (`InitConfiguration`, `ClusterConfiguration`), YAML, 1 MiB at most, that is believed
     before all that is found on the node and in backups.
     */
    const char *config;
    /*
     Its length in bytes.
     */
    size_t config_len;
    /*
     Unknown values for which kubeadm's defaults are taken, knowingly: one a line, by the names that
     `CPR_E_MISSING` tells (`scheduler.extraArgs`), 16 KiB at most.
     */
    const char *assume_defaults;
    /*
     Its length in bytes.
     */
    size_t assume_defaults_len;
} cpr_regenerate_options;

/*
 Gets an event as JSON (`cprecover.dev/event/v1`), UTF-8, not NUL-terminated, valid during the call only.
 Anything but 0 ends the watch.
 */
typedef int32_t (*cpr_event_fn)(void *user, const char *json, size_t json_len);

/*
 How a node is watched.
 */
typedef struct cpr_watch_options {
    /*
     `CPR_WATCH_*`.
     */
    uint64_t flags;
    /*
     How long after a look the next one comes while nothing changes, in milliseconds; 0 for 30 s.
     */
    uint64_t every_ms;
    /*
     How many bad looks in a row make an outage; 0 for 3.
     */
    uint32_t sick_after;
    /*
     How many recoveries an hour may have; 0 for 3.
     */
    uint32_t recoveries_per_hour;
    /*
     Gets each event, on the calling thread; may not be NULL.
     */
    cpr_event_fn event;
    /*
     Handed to `event` and `event_drop`.
     */
    void *event_user;
    /*
     Called once with `event_user` before the call returns, whatever it returns, when the struct itself
     could be read; may be NULL.
     */
    cpr_drop_fn event_drop;
} cpr_watch_options;

/*
 Success.
 */
#define CPR_OK 0

/*
 The library has a bug: this call panicked, or an earlier one on the same handle did. The handle is
 good for nothing but freeing it.
 */
#define CPR_E_PANIC -1

/*
 An argument breaks the contract: NULL where a value is needed, an impossible length or size.
 */
#define CPR_E_ARGUMENT -2

/*
 A handle is not live: freed already, never made, or of another type.
 */
#define CPR_E_HANDLE -3

/*
 Another call works on the handle, or another process on the node or its store.
 */
#define CPR_E_BUSY -4

/*
 This build, the kernel or the peer lacks it; also an unknown flag or option.
 */
#define CPR_E_UNSUPPORTED -5

/*
 It does not exist, and that is proven.
 */
#define CPR_E_NOT_FOUND -6

/*
 It exists already and must not be replaced.
 */
#define CPR_E_ALREADY_EXISTS -7

/*
 The kernel refused; the state of the thing is unknown.
 */
#define CPR_E_PERMISSION -8

/*
 The input is malformed; the message says where.
 */
#define CPR_E_INVALID -9

/*
 Stored data does not match its digest.
 */
#define CPR_E_CORRUPT -10

/*
 The world changed between check and effect; nothing was done, a retry may succeed.
 */
#define CPR_E_CHANGED -11

/*
 A guard rail forbids it; a retry will not help.
 */
#define CPR_E_REFUSED -12

/*
 The call's time is up.
 */
#define CPR_E_TIMEOUT -13

/*
 The caller cancelled.
 */
#define CPR_E_CANCELLED -14

/*
 A limit (bytes, entries, depth) was exceeded.
 */
#define CPR_E_LIMIT -15

/*
 No space, inodes or quota left.
 */
#define CPR_E_NO_SPACE -16

/*
 The file system is read-only.
 */
#define CPR_E_READ_ONLY -17

/*
 Values that only the operator knows are missing; the message lists them.
 */
#define CPR_E_MISSING -18

/*
 A peer (runtime, kubeadm, API server, etcd) failed or answered nonsense.
 */
#define CPR_E_PEER -19

/*
 A policy failed.
 */
#define CPR_E_POLICY -20

/*
 Any other failure of the operating system; see `cpr_error_os_error`.
 */
#define CPR_E_IO -21

/*
 An invariant of the library does not hold, or an error that this version has no code for.
 */
#define CPR_E_INTERNAL -22

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Returns the ABI's number of the library that runs; compare it with `CPR_ABI_VERSION`.
 */
uint32_t cpr_abi_version(void);

/*
 Returns the version of the library that runs, as `CPR_VERSION` is written. Never NULL, never freed.
 */
const char *cpr_version(void);

/*
 Returns the error's code; `CPR_OK` for NULL and `CPR_E_HANDLE` for an error that was freed.
 */
cpr_status cpr_error_code(const struct cpr_error *error);

/*
 Returns the `errno` behind the error, 0 where there is none.
 */
int32_t cpr_error_os_error(const struct cpr_error *error);

/*
 Returns the message: one line of UTF-8 that names the file, port or pid. Never NULL; valid until the
 error is freed.
 */
const char *cpr_error_message(const struct cpr_error *error);

/*
 Frees an error. Nothing happens for NULL.
 */
void cpr_error_free(struct cpr_error *error);

/*
 Returns the name of a code, such as `not-found`; `unknown` for one that this version does not know.
 Never NULL, never freed.
 */
const char *cpr_status_name(cpr_status status);

/*
 Frees the bytes of a buffer and makes it empty. Nothing happens for NULL and for an empty buffer.
 */
void cpr_buf_free(struct cpr_buf *buf);

/*
 Makes a cancel handle; freed with `cpr_cancel_free`, also while calls have it.
 */
cpr_status cpr_cancel_new(struct cpr_cancel **cancel, struct cpr_error **err);

/*
 Asks every call that was given `cancel` to end with `CPR_E_CANCELLED`. Nothing happens for NULL.
 */
void cpr_cancel_trigger(const struct cpr_cancel *cancel);

/*
 Frees a cancel handle. Nothing happens for NULL.
 */
void cpr_cancel_free(struct cpr_cancel *cancel);

/*
 Opens a node: reads its configuration and changes nothing. `*node` is freed with `cpr_node_free`.

 Errors: `CPR_E_INVALID` for a relative root or a malformed configuration.
 */
cpr_status cpr_node_open(const struct cpr_node_options *options,
                         size_t options_size,
                         struct cpr_node **node,
                         struct cpr_error **err);

/*
 Writes the node's options as they are in force as JSON (`cprecover.dev/node-options/v1`).
 */
cpr_status cpr_node_json(const struct cpr_node *node, struct cpr_buf *json, struct cpr_error **err);

/*
 Asks every call that runs on the node to end with `CPR_E_CANCELLED`; calls that start later are not
 concerned. From any thread and from callbacks; nothing happens for NULL.
 */
void cpr_node_cancel(const struct cpr_node *node);

/*
 Frees a node. A call that another thread runs on it goes on undisturbed. Nothing happens for NULL.
 */
void cpr_node_free(struct cpr_node *node);

/*
 Parses the answer of a health endpoint (`/healthz`, `/livez`, `/readyz`, etcd's `/health`) and writes
 it as JSON (`cprecover.dev/health/v1`). Any bytes are fine: what is no answer has verdict `unknown`.

 `http_status` is the answer's HTTP status, 0 when it is not known.
 */
cpr_status cpr_healthz_parse(uint32_t http_status,
                             const char *body,
                             size_t body_len,
                             struct cpr_buf *json,
                             struct cpr_error **err);

/*
 Parses the answer of a health endpoint as `cpr_healthz_parse` does and writes it in brief.
 */
cpr_status cpr_healthz_brief(uint32_t http_status,
                             const char *body,
                             size_t body_len,
                             struct cpr_health *health,
                             struct cpr_error **err);

/*
 Looks up who listens on a TCP port of the node and judges every holder; writes it as JSON
 (`cprecover.dev/port/v1`) and changes nothing. Takes 30 s at most unless `call` says otherwise.

 Errors: `CPR_E_PERMISSION` when neither netlink nor procfs may be read. An owner that cannot be read
 is no error: the state is `owner-unknown`, never `free`.
 */
cpr_status cpr_port_holder(const struct cpr_node *node,
                           const struct cpr_port *port,
                           size_t port_size,
                           const struct cpr_call *call,
                           size_t call_size,
                           struct cpr_buf *json,
                           struct cpr_error **err);

/*
 Ends the process `pid` that started at `start_ticks` (both as `cpr_port_holder` wrote them) when it
 holds the port and is judged an orphan now: SIGTERM, the node's grace time, SIGKILL, then port and lock
 are waited for. As a recovery does, it holds the node's lock, writes to the audit log, and ends an etcd
 member only with the cluster's lease, where the quorum allows it and its data are saved. A dry run does
 none of that. Writes what was done as JSON (`cprecover.dev/termination/v1`). Takes 5 min at most
 unless `call` says otherwise. `flags` may be `CPR_DRY_RUN`.

 Errors: `CPR_E_REFUSED` when it is no proven orphan or an etcd member that has to stay, `CPR_E_CHANGED` when
 it does not hold the port, `CPR_E_BUSY` when somebody else works on the node or the cluster.
 */
cpr_status cpr_terminate(struct cpr_node *node,
                         const struct cpr_port *port,
                         size_t port_size,
                         int32_t pid,
                         uint64_t start_ticks,
                         uint64_t flags,
                         const struct cpr_call *call,
                         size_t call_size,
                         struct cpr_buf *json,
                         struct cpr_error **err);

/*
 Makes a snapshot of the node's recovery set and writes its index as JSON
 (`cprecover.dev/snapshot/v1`); it is on stable storage when this returns.

 Errors: `CPR_E_CHANGED` when a file kept changing, `CPR_E_BUSY`, `CPR_E_NO_SPACE`, ...; the store is as
 it was then.
 */
cpr_status cpr_backup_create(struct cpr_node *node,
                             const struct cpr_backup_options *options,
                             size_t options_size,
                             const struct cpr_call *call,
                             size_t call_size,
                             struct cpr_buf *json,
                             struct cpr_error **err);

/*
 Writes the node's snapshots as JSON (`cprecover.dev/backup-list/v1`), by number, damaged ones included.
 */
cpr_status cpr_backup_list(const struct cpr_node *node, struct cpr_buf *json, struct cpr_error **err);

/*
 Checks a snapshot against its index and writes what is wrong as JSON (`cprecover.dev/backup-report/v1`).
 `id` is an id, a number, `latest` or `last-known-good`; damage is no error.
 */
cpr_status cpr_backup_verify(const struct cpr_node *node,
                             const char *id,
                             size_t id_len,
                             const struct cpr_call *call,
                             size_t call_size,
                             struct cpr_buf *json,
                             struct cpr_error **err);

/*
 Puts files of a snapshot back, all or nothing, and writes what changed as JSON
 (`cprecover.dev/restore/v1`); what stood there is snapshotted first. `id` as for `cpr_backup_verify`.

 Errors: `CPR_E_CORRUPT` when the snapshot is damaged, `CPR_E_REFUSED` when kubelet would run a pod
 twice, or when the snapshot is of another node; nothing is changed then.
 */
cpr_status cpr_backup_restore(struct cpr_node *node,
                              const char *id,
                              size_t id_len,
                              const struct cpr_restore_options *options,
                              size_t options_size,
                              const struct cpr_call *call,
                              size_t call_size,
                              struct cpr_buf *json,
                              struct cpr_error **err);

/*
 Takes a manifest out of kubelet's sight, durably, so that it can always be put back, and writes what
 is held as JSON (`cprecover.dev/held/v1`). `name` is a component or a file of the manifests folder.
 */
cpr_status cpr_hold(struct cpr_node *node,
                    const char *name,
                    size_t name_len,
                    const char *reason,
                    size_t reason_len,
                    const struct cpr_call *call,
                    size_t call_size,
                    struct cpr_buf *json,
                    struct cpr_error **err);

/*
 Puts a held manifest back under its own name; the same arguments and result as `cpr_hold`.

 Errors: `CPR_E_NOT_FOUND` when it is not held, `CPR_E_ALREADY_EXISTS` when another file of that name
 stands there; both are kept.
 */
cpr_status cpr_release(struct cpr_node *node,
                       const char *name,
                       size_t name_len,
                       const struct cpr_call *call,
                       size_t call_size,
                       struct cpr_buf *json,
                       struct cpr_error **err);

/*
 Writes what is held as JSON (`cprecover.dev/held/v1`).
 */
cpr_status cpr_held(const struct cpr_node *node, struct cpr_buf *json, struct cpr_error **err);

/*
 Loads a policy: a shipped one by its name (`default`, `observe-only`, ...), or a file by a path with a
 `/` in it. With an empty name, the one that `options.cache` holds under `options.sha256`. `*policy` is
 freed with `cpr_policy_free`, also while plans use it.

 Errors: `CPR_E_CORRUPT` for another digest or a changed cache, `CPR_E_REFUSED` for a missing or wrong
 signature and for a cache that others can write, `CPR_E_POLICY` for a file that is no policy,
 `CPR_E_UNSUPPORTED` for a file in a build without WebAssembly, or without a compiler when the cache
 does not have it.
 */
cpr_status cpr_policy_load(const char *name,
                           size_t name_len,
                           const struct cpr_policy_options *options,
                           size_t options_size,
                           struct cpr_policy **policy,
                           struct cpr_error **err);

/*
 Writes name, version and digest of a policy as JSON (`cprecover.dev/policy/v1`).
 */
cpr_status cpr_policy_json(const struct cpr_policy *policy, struct cpr_buf *json, struct cpr_error **err);

/*
 Frees a policy. Nothing happens for NULL.
 */
void cpr_policy_free(struct cpr_policy *policy);

/*
 Looks at the node and changes nothing; what cannot be read is part of the observation and no error.
 Takes 1 min at most unless `call` says otherwise. `*observation` is freed with `cpr_observation_free`.

 Errors: `CPR_E_CORRUPT` when the node's audit log is not what was written.
 */
cpr_status cpr_observe(const struct cpr_node *node,
                       const struct cpr_call *call,
                       size_t call_size,
                       struct cpr_observation **observation,
                       struct cpr_error **err);

/*
 Writes an observation as JSON (`cprecover.dev/observation/v1`).
 */
cpr_status cpr_observation_json(const struct cpr_observation *observation,
                                struct cpr_buf *json,
                                struct cpr_error **err);

/*
 Writes what is wrong and why as JSON (`cprecover.dev/diagnosis/v1`).
 */
cpr_status cpr_diagnose(const struct cpr_observation *observation,
                        struct cpr_buf *json,
                        struct cpr_error **err);

/*
 Frees an observation. Nothing happens for NULL.
 */
void cpr_observation_free(struct cpr_observation *observation);

/*
 Lets a policy (the default one for NULL) decide over an observation. Reads and changes nothing.
 `*plan` is freed with `cpr_plan_free`.
 */
cpr_status cpr_plan_new(const struct cpr_observation *observation,
                        const struct cpr_policy *policy,
                        struct cpr_plan **plan,
                        struct cpr_error **err);

/*
 Reads a plan that `cpr_plan_json` (or `cprecover plan -o json`) wrote, and checks its digest.
 */
cpr_status cpr_plan_read(const char *json,
                         size_t json_len,
                         const struct cpr_policy *policy,
                         struct cpr_plan **plan,
                         struct cpr_error **err);

/*
 Writes a plan as JSON (`cprecover.dev/plan/v1`): the dry run, with a digest that binds it.
 */
cpr_status cpr_plan_json(const struct cpr_plan *plan, struct cpr_buf *json, struct cpr_error **err);

/*
 Applies a plan: each step is decided anew right before it, nothing outside the plan is done, and every
 effect is in the node's audit log. Writes a report as JSON (`cprecover.dev/recovery/v1`), also when
 the node did not become healthy: that is `ending.state`, no error. A plan of another node or another
 policy ends `refused`. Takes 5 min at most unless `call` says otherwise.

 A step on a member of an etcd cluster of several is refused while another node of the cluster is worked
 on, as far as the node's API server can be asked (the lease `kube-system/cprecover`).

 Errors: `CPR_E_BUSY` when another engine works on the node, `CPR_E_CORRUPT` when its audit log is broken,
 and the kinds of a failed write to it: an effect that cannot be recorded is not begun.
 */
cpr_status cpr_plan_apply(struct cpr_node *node,
                          const struct cpr_plan *plan,
                          const struct cpr_recover_options *options,
                          size_t options_size,
                          const struct cpr_call *call,
                          size_t call_size,
                          struct cpr_buf *report,
                          struct cpr_error **err);

/*
 Recovers the node: looks, decides by a policy (the default one for NULL), acts and verifies, until it is
 healthy or nothing more may be done. Report, time and errors are as for `cpr_plan_apply`.
 */
cpr_status cpr_recover(struct cpr_node *node,
                       const struct cpr_policy *policy,
                       const struct cpr_recover_options *options,
                       size_t options_size,
                       const struct cpr_call *call,
                       size_t call_size,
                       struct cpr_buf *report,
                       struct cpr_error **err);

/*
 Frees a plan. Nothing happens for NULL.
 */
void cpr_plan_free(struct cpr_plan *plan);

/*
 Renders the manifests of `components_wanted` (`CPR_ETCD`, ...) with the node's kubeadm into a staging
 folder; nothing live is touched. Takes 2 min at most unless `call` says otherwise. `*regeneration` is
 freed with `cpr_regeneration_free`.

 Errors: `CPR_E_MISSING` when values are not known; the message names them, and each is either in
 `options.config` or named in `options.assume_defaults` next time. `CPR_E_LIMIT` when one of these is too
 large, `CPR_E_INVALID` when the config is none, `CPR_E_PEER` when kubeadm fails, ...
 */
cpr_status cpr_regenerate_plan(const struct cpr_node *node,
                               uint64_t components_wanted,
                               const struct cpr_regenerate_options *options,
                               size_t options_size,
                               const struct cpr_call *call,
                               size_t call_size,
                               struct cpr_regeneration **regeneration,
                               struct cpr_error **err);

/*
 Writes a regeneration as JSON (`cprecover.dev/regeneration-plan/v1`): origins, differences, checks,
 and what has to be accepted or mended before it may be applied.
 */
cpr_status cpr_regeneration_json(const struct cpr_regeneration *regeneration,
                                 struct cpr_buf *json,
                                 struct cpr_error **err);

/*
 Installs regenerated manifests, all or none; what stood there is snapshotted first. Writes what was
 installed as JSON (`cprecover.dev/regeneration/v1`). `flags`: `CPR_ACCEPT_REGENERATED_CHANGES`,
 `CPR_ACCEPT_WITHOUT_COMPARISON`.

 Errors: `CPR_E_REFUSED` with the objections, `CPR_E_CHANGED` when a live file changed since the plan.
 */
cpr_status cpr_regenerate_apply(struct cpr_node *node,
                                const struct cpr_regeneration *regeneration,
                                uint64_t flags,
                                const struct cpr_call *call,
                                size_t call_size,
                                struct cpr_buf *json,
                                struct cpr_error **err);

/*
 Frees a regeneration. Nothing happens for NULL.
 */
void cpr_regeneration_free(struct cpr_regeneration *regeneration);

/*
 Writes who knows each pod folder of the node, and what was moved aside, as JSON
 (`cprecover.dev/pods/v1`); changes nothing. Takes 2 min at most unless `call` says otherwise.

 Errors: that of the runtime when it does not answer: then nothing is known to be left over.
 */
cpr_status cpr_pods_list(const struct cpr_node *node,
                         const struct cpr_call *call,
                         size_t call_size,
                         struct cpr_buf *json,
                         struct cpr_error **err);

/*
 Moves pod folders into a quarantine on the same file system, with kubelet stopped meanwhile, and writes
 where they are as JSON (`cprecover.dev/pods-quarantine/v1`). `uids` has one pod UID a line; it is empty
 when `flags` has `CPR_PODS_ALL_LEFTOVER`. Takes 2 min at most unless `call` says otherwise.

 Errors: `CPR_E_REFUSED` when somebody knows one of the pods or a mount is below it: nothing is moved
 then; `CPR_E_NOT_FOUND` when no folder is left over.
 */
cpr_status cpr_pods_quarantine(struct cpr_node *node,
                               const char *uids,
                               size_t uids_len,
                               uint64_t flags,
                               const struct cpr_call *call,
                               size_t call_size,
                               struct cpr_buf *json,
                               struct cpr_error **err);

/*
 Moves the folders of a quarantine back to where they were and writes it as JSON, as
 `cpr_pods_quarantine` does. `folder` is the quarantine's, as `cpr_pods_list` wrote it; the newest one
 when empty. Takes 2 min at most unless `call` says otherwise.

 Errors: `CPR_E_NOT_FOUND` when there is no such quarantine, `CPR_E_ALREADY_EXISTS` when a folder of
 the same pod stands there again; nothing is moved then.
 */
cpr_status cpr_pods_undo(struct cpr_node *node,
                         const char *folder,
                         size_t folder_len,
                         const struct cpr_call *call,
                         size_t call_size,
                         struct cpr_buf *json,
                         struct cpr_error **err);

/*
 Asks the node's member how it and its cluster are doing and writes that as JSON
 (`cprecover.dev/etcd-status/v1`): members, quorum, leader, alarms, sizes. Address and certificates are
 those of the node's manifest. Takes 1 min at most unless `call` says otherwise.

 Errors: `CPR_E_NOT_FOUND` without a manifest, `CPR_E_PEER`, `CPR_E_TIMEOUT`, ...; a cluster without a
 quorum is an answer (`healthy` is false).
 */
cpr_status cpr_etcd_status(const struct cpr_node *node,
                           const struct cpr_call *call,
                           size_t call_size,
                           struct cpr_buf *json,
                           struct cpr_error **err);

/*
 Judges a data directory of etcd, a path of this machine, without starting etcd and without changing
 anything, and writes the verdict as JSON (`cprecover.dev/etcd-check/v1`): state, what etcd would do with
 it, every finding. Empty for the node's own, by its manifest. Takes 10 min at most unless `call` says
 otherwise; what was not read by then is unfinished.
 */
cpr_status cpr_etcd_check(const struct cpr_node *node,
                          const char *data_dir,
                          size_t data_dir_len,
                          const struct cpr_call *call,
                          size_t call_size,
                          struct cpr_buf *json,
                          struct cpr_error **err);

/*
 Saves a snapshot of the node's running member to the new file `to`, a path of this machine, compares
 the digest that etcd sends, walks every page, and writes what was saved as JSON
 (`cprecover.dev/etcd-snapshot/v1`). Address and certificates are those of the node's manifest. Takes
 10 min at most unless `call` says otherwise.

 Errors: `CPR_E_ALREADY_EXISTS` when there is such a file, `CPR_E_CORRUPT` when digest or pages are
 wrong, `CPR_E_NO_SPACE`, `CPR_E_PEER`, ...; no file is left behind.
 */
cpr_status cpr_etcd_snapshot(const struct cpr_node *node,
                             const char *to,
                             size_t to_len,
                             const struct cpr_call *call,
                             size_t call_size,
                             struct cpr_buf *json,
                             struct cpr_error **err);

/*
 Writes a tar of what is seen, found, logged and was done, and of what a policy (the default one for
 NULL) would do, to the new file `to`, a path of this machine; secrets are taken out. Writes what is in
 it as JSON (`cprecover.dev/support-bundle/v1`). Takes 2 min at most unless `call` says otherwise.

 Errors: `CPR_E_ALREADY_EXISTS` when there is such a file; that of a file with secrets which cannot be
 read, so that it is not known what to take out. No file is left behind.
 */
cpr_status cpr_support_bundle(const struct cpr_node *node,
                              const struct cpr_policy *policy,
                              const char *to,
                              size_t to_len,
                              const struct cpr_call *call,
                              size_t call_size,
                              struct cpr_buf *json,
                              struct cpr_error **err);

/*
 Watches the node until the time of `call` is up (never, unless it says so), the call is cancelled or
 `event` says so: backs up what works after each change of a manifest and, every 10 minutes, what else
 changed; tells each turn, an outage before the recovery from it; and recovers when `CPR_WATCH_RECOVER`
 is set, by a policy (the default one for NULL). Works on the calling thread.

 Errors: `CPR_E_CANCELLED`. A backup or a recovery that fails is an event.
 */
cpr_status cpr_watch(const struct cpr_node *node,
                     const struct cpr_policy *policy,
                     const struct cpr_watch_options *options,
                     size_t options_size,
                     const struct cpr_call *call,
                     size_t call_size,
                     struct cpr_error **err);

/*
 Reads the node's audit log, checks its chain, and writes every entry as JSON (`cprecover.dev/audit/v1`),
 oldest first. Changes nothing.

 Errors: `CPR_E_NOT_FOUND` when there is none, `CPR_E_CORRUPT` naming the line where the chain breaks,
 or when the log does not end where it did.
 */
cpr_status cpr_audit(const struct cpr_node *node, struct cpr_buf *json, struct cpr_error **err);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CPRECOVER_H */
