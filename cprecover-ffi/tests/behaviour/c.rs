//! The C ABI, called as a C program calls it; what it answers is kept, to be held to its schema.

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use cprecover_ffi::*;
use serde_json::Value;

use crate::schema::keep;
use crate::surface::{Answer, Bounds, Cprecover, Failed, Process, Regenerate, Restore, Trust};

/// The library behind its header.
pub(crate) struct C {
    node: *mut cpr_node,
}

impl Drop for C {
    fn drop(&mut self) {
        cpr_node_free(self.node);
    }
}

/// Calls `f` with a place for an error and takes what it left there.
fn status(f: impl FnOnce(*mut *mut cpr_error) -> cpr_status) -> Result<(), Failed> {
    let mut error = null_mut();
    let status = f(&raw mut error);
    assert_eq!(cpr_error_code(error), status, "the code of the error is the status");
    if status == CPR_OK {
        return Ok(());
    }
    // SAFETY: both are C strings; the message lives as long as the error.
    let (kind, message) =
        unsafe { (CStr::from_ptr(cpr_status_name(status)), CStr::from_ptr(cpr_error_message(error))) };
    let failed = Failed {
        kind: kind.to_str().expect("ascii").to_owned(),
        message: message.to_str().expect("utf-8").to_owned(),
    };
    cpr_error_free(error);
    Err(failed)
}

/// The bytes that a call writes, which must be JSON of the schema `thing`.
fn text(
    thing: &str,
    f: impl FnOnce(*mut cpr_buf, *mut *mut cpr_error) -> cpr_status,
) -> Result<Vec<u8>, Failed> {
    // Rubbish, as a variable of C has it: the function must write it whatever happens.
    let mut buf = cpr_buf { ptr: null_mut::<u8>().wrapping_add(8), len: 9, reserved: null_mut() };
    let done = status(|error| f(&raw mut buf, error));
    if let Err(failed) = done {
        assert!(buf.ptr.is_null() && buf.len == 0 && buf.reserved.is_null(), "{thing}: written on failure");
        return Err(failed);
    }
    // SAFETY: the call wrote `len` bytes at `ptr`.
    let bytes = unsafe { std::slice::from_raw_parts(buf.ptr, buf.len) }.to_vec();
    // SAFETY: a variable.
    unsafe { cpr_buf_free(&raw mut buf) };
    keep(thing, &serde_json::from_slice(&bytes).expect("JSON"));
    Ok(bytes)
}

/// As [`text`], without `schema`.
fn answer(thing: &str, f: impl FnOnce(*mut cpr_buf, *mut *mut cpr_error) -> cpr_status) -> Answer {
    let mut value: Value = serde_json::from_slice(&text(thing, f)?).expect("JSON");
    value.as_object_mut().expect("an object").shift_remove("schema");
    Ok(value)
}

fn chars(text: &str) -> (*const c_char, usize) {
    if text.is_empty() { (null(), 0) } else { (text.as_ptr().cast(), text.len()) }
}

fn component(name: &str) -> u64 {
    match name {
        "" => 0,
        "etcd" => CPR_ETCD,
        "kube-apiserver" => CPR_KUBE_APISERVER,
        "kube-controller-manager" => CPR_KUBE_CONTROLLER_MANAGER,
        "kube-scheduler" => CPR_KUBE_SCHEDULER,
        other => panic!("no component {other}"),
    }
}

/// A handle that is freed.
pub(crate) struct Owned<T>(*mut T, extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        (self.1)(self.0);
    }
}

impl<T> Owned<T> {
    fn made(
        free: extern "C" fn(*mut T),
        f: impl FnOnce(*mut *mut T, *mut *mut cpr_error) -> cpr_status,
    ) -> Result<Self, Failed> {
        let mut handle = null_mut::<T>().wrapping_byte_add(8);
        let done = status(|error| f(&raw mut handle, error));
        assert_eq!(handle.is_null(), done.is_err(), "a handle exactly on success");
        done.map(|()| Self(handle, free))
    }
}

/// How a call is bounded, with what it borrows.
struct Call {
    options: cpr_call,
    _cancel: Option<Owned<cpr_cancel>>,
}

impl From<Bounds> for Call {
    fn from(bounds: Bounds) -> Self {
        let cancel = bounds.cancelled.then(|| {
            // SAFETY: both outputs are variables.
            let made = Owned::made(cpr_cancel_free, |cancel, error| unsafe { cpr_cancel_new(cancel, error) });
            let made = made.expect("a cancel");
            cpr_cancel_trigger(made.0);
            made
        });
        let options = cpr_call {
            timeout_ms: bounds.timeout_ms,
            cancel: cancel.as_ref().map_or(null(), |cancel| cancel.0.cast_const()),
            log: None,
            log_user: null_mut(),
            log_drop: None,
            log_level: 0,
            reserved: 0,
        };
        Self { options, _cancel: cancel }
    }
}

const CALL: usize = size_of::<cpr_call>();

impl C {
    fn observe(&self, bounds: Bounds) -> Result<Owned<cpr_observation>, Failed> {
        let call = Call::from(bounds);
        // SAFETY: all arguments are live for the call.
        Owned::made(cpr_observation_free, |seen, error| unsafe {
            cpr_observe(self.node, &raw const call.options, CALL, seen, error)
        })
    }

    fn load(name: &str, trust: Trust<'_>) -> Result<Owned<cpr_policy>, Failed> {
        let ((name, name_len), (sha256, sha256_len)) = (chars(name), chars(trust.sha256));
        let ((key, key_len), (cache, cache_len)) = (chars(trust.key), chars(trust.cache));
        let options = cpr_policy_options { sha256, sha256_len, key, key_len, cache, cache_len };
        // SAFETY: all arguments are live for the call.
        Owned::made(cpr_policy_free, |policy, error| unsafe {
            cpr_policy_load(name, name_len, &raw const options, size_of_val(&options), policy, error)
        })
    }

    /// The default policy is NULL.
    fn policy_or_default(name: &str) -> Result<Owned<cpr_policy>, Failed> {
        if name.is_empty() {
            Ok(Owned(null_mut(), cpr_policy_free))
        } else {
            Self::load(name, Trust::default())
        }
    }

    fn read(text: &[u8]) -> Result<Owned<cpr_plan>, Failed> {
        // SAFETY: all arguments are live for the call.
        Owned::made(cpr_plan_free, |plan, error| unsafe {
            cpr_plan_read(text.as_ptr().cast(), text.len(), null(), plan, error)
        })
    }

    fn regeneration(&self, name: &str, given: Regenerate<'_>) -> Result<Owned<cpr_regeneration>, Failed> {
        let flags = if given.etcd_member_just_added { CPR_REGENERATE_ETCD_MEMBER_JUST_ADDED } else { 0 };
        self.regeneration_with(name, given, flags)
    }

    /// Also with flags that only C can say.
    pub(crate) fn regeneration_with(
        &self,
        name: &str,
        given: Regenerate<'_>,
        flags: u64,
    ) -> Result<Owned<cpr_regeneration>, Failed> {
        let (config, config_len) = chars(given.config);
        let names = given.assume_defaults.join("\n");
        let (assume_defaults, assume_defaults_len) = chars(&names);
        let options =
            cpr_regenerate_options { flags, config, config_len, assume_defaults, assume_defaults_len };
        // SAFETY: all arguments are live for the call.
        Owned::made(cpr_regeneration_free, |plan, error| unsafe {
            let size = size_of_val(&options);
            cpr_regenerate_plan(self.node, component(name), &raw const options, size, null(), 0, plan, error)
        })
    }

    fn question(port: u16, address: &str, wanted_by: &str) -> cpr_port {
        let (address, address_len) = chars(address);
        cpr_port { port: port.into(), reserved: 0, address, address_len, wanted_by: component(wanted_by) }
    }
}

fn plan_text(plan: &Owned<cpr_plan>) -> Answer {
    // SAFETY: all arguments are live for the call.
    let text = text("plan", |buf, error| unsafe { cpr_plan_json(plan.0, buf, error) })?;
    Ok(serde_json::from_slice(&text).expect("JSON"))
}

fn recover_options(dry_run: bool) -> cpr_recover_options {
    cpr_recover_options { flags: if dry_run { CPR_DRY_RUN } else { 0 }, settle_ms: 0 }
}

impl Cprecover for C {
    const NAME: &'static str = "C ABI";

    fn open(root: &Path, config: &str) -> Result<Self, Failed> {
        let ((root, root_len), (config, config_len)) = (chars(root.to_str().expect("utf-8")), chars(config));
        let options = cpr_node_options { root, root_len, config, config_len, flags: 0 };
        let mut node = null_mut();
        // SAFETY: all arguments are live for the call.
        status(|error| unsafe {
            cpr_node_open(&raw const options, size_of_val(&options), &raw mut node, error)
        })?;
        Ok(Self { node })
    }

    fn node_options(&self) -> Answer {
        // SAFETY: all arguments are live for the call; so below.
        answer("node-options", |buf, error| unsafe { cpr_node_json(self.node, buf, error) })
    }

    fn health(status_code: u16, body: &[u8]) -> Answer {
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        let whole = answer("health", |buf, error| unsafe {
            cpr_healthz_parse(status_code.into(), body.as_ptr().cast(), body.len(), buf, error)
        })?;
        let mut brief = cpr_health { verdict: -1, checks: 9, failed: 9, etcd_failed: 9 };
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        status(|error| unsafe {
            cpr_healthz_brief(status_code.into(), body.as_ptr().cast(), body.len(), &raw mut brief, error)
        })?;
        let verdict = match brief.verdict {
            CPR_HEALTH_HEALTHY => "healthy",
            CPR_HEALTH_UNHEALTHY => "unhealthy",
            CPR_HEALTH_UNDETERMINED => "alive-undetermined",
            _ => "unknown",
        };
        assert_eq!(whole["verdict"], verdict, "in brief and as JSON: {whole}");
        assert_eq!(whole["checks"].as_array().expect("checks").len(), usize::try_from(brief.checks).unwrap());
        Ok(whole)
    }

    fn policy(name: &str, trust: Trust<'_>) -> Answer {
        let policy = Self::load(name, trust)?;
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("policy", |buf, error| unsafe { cpr_policy_json(policy.0, buf, error) })
    }

    fn port(&self, port: u16, address: &str, wanted_by: &str, bounds: Bounds) -> Answer {
        let (question, call) = (Self::question(port, address, wanted_by), Call::from(bounds));
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("port", |buf, error| unsafe {
            let size = size_of_val(&question);
            cpr_port_holder(self.node, &raw const question, size, &raw const call.options, CALL, buf, error)
        })
    }

    fn terminate(&self, port: u16, process: Process, dry_run: bool) -> Answer {
        let question = Self::question(port, "", "");
        let flags = if dry_run { CPR_DRY_RUN } else { 0 };
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("termination", |buf, error| unsafe {
            let size = size_of_val(&question);
            let (pid, ticks) = (process.pid, process.start_ticks);
            cpr_terminate(self.node, &raw const question, size, pid, ticks, flags, null(), 0, buf, error)
        })
    }

    fn backup(&self, reason: &str, only_if_changed: bool, bounds: Bounds) -> Answer {
        let (reason, reason_len) = chars(reason);
        let flags = if only_if_changed { CPR_BACKUP_IF_CHANGED } else { 0 };
        let options = cpr_backup_options { flags, groups: 0, reason, reason_len };
        let call = Call::from(bounds);
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("snapshot", |buf, error| unsafe {
            let size = size_of_val(&options);
            cpr_backup_create(self.node, &raw const options, size, &raw const call.options, CALL, buf, error)
        })
    }

    fn backups(&self) -> Answer {
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("backup-list", |buf, error| unsafe { cpr_backup_list(self.node, buf, error) })
    }

    fn verify(&self, id: &str, bounds: Bounds) -> Answer {
        let ((id, id_len), call) = (chars(id), Call::from(bounds));
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("backup-report", |buf, error| unsafe {
            cpr_backup_verify(self.node, id, id_len, &raw const call.options, CALL, buf, error)
        })
    }

    fn restore(&self, id: &str, given: Restore<'_>) -> Answer {
        let ((id, id_len), (below, below_len)) = (chars(id), chars(given.below));
        let flags = if given.dry_run { CPR_DRY_RUN } else { 0 }
            | if given.other_node { CPR_RESTORE_OTHER_NODE } else { 0 };
        let components = component(given.component);
        let options = cpr_restore_options { flags, groups: 0, components, below, below_len };
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("restore", |buf, error| unsafe {
            let size = size_of_val(&options);
            cpr_backup_restore(self.node, id, id_len, &raw const options, size, null(), 0, buf, error)
        })
    }

    fn hold(&self, name: &str, reason: &str) -> Answer {
        let ((name, name_len), (reason, reason_len)) = (chars(name), chars(reason));
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("held", |buf, error| unsafe {
            cpr_hold(self.node, name, name_len, reason, reason_len, null(), 0, buf, error)
        })
    }

    fn release(&self, name: &str) -> Answer {
        let (name, name_len) = chars(name);
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("held", |buf, error| unsafe { cpr_release(self.node, name, name_len, null(), 0, buf, error) })
    }

    fn held(&self) -> Answer {
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("held", |buf, error| unsafe { cpr_held(self.node, buf, error) })
    }

    fn look(&self, bounds: Bounds) -> Result<(Value, Value), Failed> {
        let seen = self.observe(bounds)?;
        let observation =
            // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
            answer("observation", |buf, error| unsafe { cpr_observation_json(seen.0, buf, error) })?;
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        Ok((observation, answer("diagnosis", |buf, error| unsafe { cpr_diagnose(seen.0, buf, error) })?))
    }

    fn plan(&self, name: &str) -> Answer {
        let (seen, policy) = (self.observe(Bounds::usual())?, Self::policy_or_default(name)?);
        let plan =
            // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
            Owned::made(cpr_plan_free, |plan, error| unsafe { cpr_plan_new(seen.0, policy.0, plan, error) })?;
        plan_text(&plan)
    }

    fn read_plan(text: &[u8]) -> Answer {
        plan_text(&Self::read(text)?)
    }

    fn apply(&self, plan: &[u8]) -> Answer {
        let (plan, options) = (Self::read(plan)?, recover_options(false));
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("recovery", |buf, error| unsafe {
            let size = size_of_val(&options);
            cpr_plan_apply(self.node, plan.0, &raw const options, size, null(), 0, buf, error)
        })
    }

    fn recover(&self, name: &str, dry_run: bool, bounds: Bounds) -> Answer {
        let (policy, options) = (Self::policy_or_default(name)?, recover_options(dry_run));
        let call = Call::from(bounds);
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("recovery", |buf, error| unsafe {
            let size = size_of_val(&options);
            cpr_recover(
                self.node,
                policy.0,
                &raw const options,
                size,
                &raw const call.options,
                CALL,
                buf,
                error,
            )
        })
    }

    fn watch(&self, events: usize, bounds: Bounds) -> Result<Vec<Value>, Failed> {
        struct Told(Vec<Value>, usize, usize);
        unsafe extern "C" fn event(user: *mut c_void, json: *const c_char, len: usize) -> i32 {
            // SAFETY: `user` is the `Told` below, and the text lives for this call.
            let (told, text) =
                unsafe { (&mut *user.cast::<Told>(), std::slice::from_raw_parts(json.cast::<u8>(), len)) };
            let mut event: Value = serde_json::from_slice(text).expect("JSON");
            keep("event", &event);
            event.as_object_mut().expect("an object").shift_remove("schema");
            told.0.push(event);
            i32::from(told.0.len() >= told.1)
        }
        unsafe extern "C" fn dropped(user: *mut c_void) {
            // SAFETY: as above.
            unsafe { (*user.cast::<Told>()).2 += 1 };
        }
        let (mut told, call) = (Told(Vec::new(), events, 0), Call::from(bounds));
        let options = cpr_watch_options {
            flags: 0,
            every_ms: 1000,
            sick_after: 1,
            recoveries_per_hour: 0,
            event: Some(event),
            event_user: (&raw mut told).cast(),
            event_drop: Some(dropped),
        };
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        let done = status(|error| unsafe {
            let size = size_of_val(&options);
            cpr_watch(self.node, null(), &raw const options, size, &raw const call.options, CALL, error)
        });
        assert_eq!(told.2, 1, "event_drop is called once");
        done.map(|()| told.0)
    }

    fn plan_regeneration(&self, component: &str, given: Regenerate<'_>) -> Answer {
        let plan = self.regeneration(component, given)?;
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("regeneration-plan", |buf, error| unsafe { cpr_regeneration_json(plan.0, buf, error) })
    }

    fn regenerate(&self, component: &str) -> Answer {
        let plan = self.regeneration(component, Regenerate::default())?;
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("regeneration", |buf, error| unsafe {
            let flags = CPR_ACCEPT_REGENERATED_CHANGES | CPR_ACCEPT_WITHOUT_COMPARISON;
            cpr_regenerate_apply(self.node, plan.0, flags, null(), 0, buf, error)
        })
    }

    fn audit(&self) -> Answer {
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("audit", |buf, error| unsafe { cpr_audit(self.node, buf, error) })
    }

    fn pods(&self) -> Answer {
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("pods", |buf, error| unsafe { cpr_pods_list(self.node, null(), 0, buf, error) })
    }

    fn quarantine(&self, uids: &[&str]) -> Answer {
        let flags = if uids.is_empty() { CPR_PODS_ALL_LEFTOVER } else { 0 };
        let text = uids.join("\n");
        let (uids, uids_len) = chars(&text);
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("pods-quarantine", |buf, error| unsafe {
            cpr_pods_quarantine(self.node, uids, uids_len, flags, null(), 0, buf, error)
        })
    }

    fn undo_quarantine(&self, folder: &str) -> Answer {
        let (folder, folder_len) = chars(folder);
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("pods-quarantine", |buf, error| unsafe {
            cpr_pods_undo(self.node, folder, folder_len, null(), 0, buf, error)
        })
    }

    fn etcd_status(&self) -> Answer {
        // SAFETY: every pointer is live for the call.
        answer("etcd-status", |buf, error| unsafe { cpr_etcd_status(self.node, null(), 0, buf, error) })
    }

    fn check_etcd(&self, data_dir: &str) -> Answer {
        let (data_dir, data_dir_len) = chars(data_dir);
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("etcd-check", |buf, error| unsafe {
            cpr_etcd_check(self.node, data_dir, data_dir_len, null(), 0, buf, error)
        })
    }

    fn save_etcd(&self, to: &Path) -> Answer {
        let (to, to_len) = chars(to.to_str().expect("utf-8"));
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("etcd-snapshot", |buf, error| unsafe {
            cpr_etcd_snapshot(self.node, to, to_len, null(), 0, buf, error)
        })
    }

    fn support_bundle(&self, to: &Path, bounds: Bounds) -> Answer {
        let ((to, to_len), call) = (chars(to.to_str().expect("utf-8")), Call::from(bounds));
        // SAFETY: every pointer is live for the call, and the lengths are those of what they point to.
        answer("support-bundle", |buf, error| unsafe {
            cpr_support_bundle(self.node, null(), to, to_len, &raw const call.options, CALL, buf, error)
        })
    }
}
