//! Tests: after a panic only freeing is left, for every function and every handle that it takes.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::ptr::{null, null_mut};

use syn::{FnArg, Item, Type};

use crate::handle::{self, Opaque};
use crate::*;

/// What a function says when one of its handles is poisoned; `b` and `e` are its output and its error.
struct Row {
    function: &'static str,
    handle: &'static str,
    call: fn(&World, *mut cpr_buf, *mut *mut cpr_error) -> cpr_status,
}

/// Two of each handle: one that a call panicked on, and one that is as good as new.
struct World {
    bad: Handles,
    good: Handles,
}

struct Handles {
    node: *mut cpr_node,
    policy: *mut cpr_policy,
    seen: *mut cpr_observation,
    plan: *mut cpr_plan,
}

impl Handles {
    fn new(root: &Path) -> Self {
        let root = root.to_str().expect("utf-8");
        let options = cpr_node_options {
            root: root.as_ptr().cast(),
            root_len: root.len(),
            config: null(),
            config_len: 0,
            flags: 0,
        };
        let (mut node, mut policy, mut seen, mut plan) = (null_mut(), null_mut(), null_mut(), null_mut());
        let name = "observe-only";
        // SAFETY: all arguments are live, and the outputs are variables.
        let made = unsafe {
            [
                cpr_node_open(&raw const options, size_of_val(&options), &raw mut node, null_mut()),
                cpr_policy_load(name.as_ptr().cast(), name.len(), null(), 0, &raw mut policy, null_mut()),
                cpr_observe(node, null(), 0, &raw mut seen, null_mut()),
                cpr_plan_new(seen, policy, &raw mut plan, null_mut()),
            ]
        };
        assert_eq!(made, [CPR_OK; 4]);
        Self { node, policy, seen, plan }
    }

    fn free(&self) {
        cpr_node_free(self.node);
        cpr_policy_free(self.policy);
        cpr_observation_free(self.seen);
        cpr_plan_free(self.plan);
    }
}

fn poison<R: Opaque>(handle: *const R) {
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _used = handle::share(handle).expect("free");
        std::panic::resume_unwind(Box::new("asked for"));
    }));
    assert!(caught.is_err());
}

macro_rules! rows {
    ($($function:ident ($handle:literal) = |$w:ident, $b:ident, $e:ident| $call:expr;)+) => {
        [$(Row {
            function: stringify!($function),
            handle: $handle,
            // SAFETY: handles are looked up, everything else is NULL, empty or a variable.
            call: |$w, $b, $e| unsafe { $call },
        }),+]
    };
}

/// A name that is not empty.
const N: *const std::ffi::c_char = c"etcd".as_ptr();

#[rustfmt::skip]
fn rows() -> impl IntoIterator<Item = Row> {
    rows![
        cpr_node_json("cpr_node") = |w, b, e| cpr_node_json(w.bad.node, b, e);
        cpr_port_holder("cpr_node") = |w, b, e| cpr_port_holder(w.bad.node, null(), 0, null(), 0, b, e);
        cpr_terminate("cpr_node") = |w, b, e| cpr_terminate(w.bad.node, null(), 0, 1, 1, 1, null(), 0, b, e);
        cpr_backup_create("cpr_node") = |w, b, e| cpr_backup_create(w.bad.node, null(), 0, null(), 0, b, e);
        cpr_backup_list("cpr_node") = |w, b, e| cpr_backup_list(w.bad.node, b, e);
        cpr_backup_verify("cpr_node") = |w, b, e| cpr_backup_verify(w.bad.node, N, 4, null(), 0, b, e);
        cpr_backup_restore("cpr_node") = |w, b, e| cpr_backup_restore(w.bad.node, N, 4, null(), 0, null(), 0, b, e);
        cpr_hold("cpr_node") = |w, b, e| cpr_hold(w.bad.node, N, 4, N, 4, null(), 0, b, e);
        cpr_release("cpr_node") = |w, b, e| cpr_release(w.bad.node, N, 4, null(), 0, b, e);
        cpr_held("cpr_node") = |w, b, e| cpr_held(w.bad.node, b, e);
        cpr_policy_json("cpr_policy") = |w, b, e| cpr_policy_json(w.bad.policy, b, e);
        cpr_observe("cpr_node") = |w, _b, e| { let mut o = null_mut(); cpr_observe(w.bad.node, null(), 0, &raw mut o, e) };
        cpr_observation_json("cpr_observation") = |w, b, e| cpr_observation_json(w.bad.seen, b, e);
        cpr_diagnose("cpr_observation") = |w, b, e| cpr_diagnose(w.bad.seen, b, e);
        cpr_plan_new("cpr_observation") = |w, _b, e| { let mut p = null_mut(); cpr_plan_new(w.bad.seen, null(), &raw mut p, e) };
        cpr_plan_new("cpr_policy") = |w, _b, e| { let mut p = null_mut(); cpr_plan_new(w.good.seen, w.bad.policy, &raw mut p, e) };
        cpr_plan_read("cpr_policy") = |w, _b, e| plan_read(w, e);
        cpr_plan_json("cpr_plan") = |w, b, e| cpr_plan_json(w.bad.plan, b, e);
        cpr_plan_apply("cpr_node") = |w, b, e| cpr_plan_apply(w.bad.node, w.good.plan, null(), 0, null(), 0, b, e);
        cpr_plan_apply("cpr_plan") = |w, b, e| cpr_plan_apply(w.good.node, w.bad.plan, null(), 0, null(), 0, b, e);
        cpr_recover("cpr_node") = |w, b, e| cpr_recover(w.bad.node, null(), null(), 0, null(), 0, b, e);
        cpr_recover("cpr_policy") = |w, b, e| cpr_recover(w.good.node, w.bad.policy, null(), 0, null(), 0, b, e);
        cpr_regenerate_plan("cpr_node") = |w, _b, e| { let mut r = null_mut(); cpr_regenerate_plan(w.bad.node, 1, null(), 0, null(), 0, &raw mut r, e) };
        cpr_regenerate_apply("cpr_node") = |w, b, e| cpr_regenerate_apply(w.bad.node, null(), 0, null(), 0, b, e);
        cpr_watch("cpr_node") = |w, _b, e| cpr_watch(w.bad.node, null(), null(), 0, null(), 0, e);
        cpr_watch("cpr_policy") = |w, _b, e| cpr_watch(w.good.node, w.bad.policy, null(), 0, null(), 0, e);
        cpr_audit("cpr_node") = |w, b, e| cpr_audit(w.bad.node, b, e);
        cpr_pods_list("cpr_node") = |w, b, e| cpr_pods_list(w.bad.node, null(), 0, b, e);
        cpr_pods_quarantine("cpr_node") = |w, b, e| cpr_pods_quarantine(w.bad.node, N, 4, 0, null(), 0, b, e);
        cpr_pods_undo("cpr_node") = |w, b, e| cpr_pods_undo(w.bad.node, N, 4, null(), 0, b, e);
        cpr_etcd_status("cpr_node") = |w, b, e| cpr_etcd_status(w.bad.node, null(), 0, b, e);
        cpr_etcd_check("cpr_node") = |w, b, e| cpr_etcd_check(w.bad.node, null(), 0, null(), 0, b, e);
        cpr_etcd_snapshot("cpr_node") = |w, b, e| cpr_etcd_snapshot(w.bad.node, N, 4, null(), 0, b, e);
        cpr_support_bundle("cpr_node") = |w, b, e| cpr_support_bundle(w.bad.node, null(), N, 4, null(), 0, b, e);
        cpr_support_bundle("cpr_policy") = |w, b, e| cpr_support_bundle(w.good.node, w.bad.policy, N, 4, null(), 0, b, e);
    ]
}

/// Reads a good plan with a poisoned policy.
///
/// # Safety
/// `e` is valid for a write of a pointer.
unsafe fn plan_read(w: &World, e: *mut *mut cpr_error) -> cpr_status {
    let (mut plan, mut text) = (null_mut(), cpr_buf::EMPTY);
    // SAFETY: all arguments are live, and the outputs are variables.
    unsafe {
        assert_eq!(cpr_plan_json(w.good.plan, &raw mut text, null_mut()), CPR_OK);
        let status = cpr_plan_read(text.ptr.cast(), text.len, w.bad.policy, &raw mut plan, e);
        cpr_buf_free(&raw mut text);
        status
    }
}

/// Every function that can fail with every handle that it uses: node, policy, observation, plan.
///
/// A regeneration, which only a node with kubeadm has, is taken by the same code; an error and a cancel are
/// looked at without being used, so that no panic can reach them.
fn wanted() -> BTreeSet<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wanted = BTreeSet::new();
    for entry in std::fs::read_dir(src).expect("src") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("source");
        for item in syn::parse_file(&text).expect("Rust").items {
            let Item::Fn(function) = item else { continue };
            let name = function.sig.ident.to_string();
            if function.sig.abi.is_none() || name.ends_with("_free") || name == "cpr_node_cancel" {
                continue;
            }
            for argument in &function.sig.inputs {
                let FnArg::Typed(argument) = argument else { continue };
                let Type::Ptr(pointer) = &*argument.ty else { continue };
                let Type::Path(path) = &*pointer.elem else { continue };
                let ty = path.path.segments.last().expect("a name").ident.to_string();
                if ["cpr_node", "cpr_policy", "cpr_observation", "cpr_plan"].contains(&ty.as_str()) {
                    wanted.insert((name.clone(), ty));
                }
            }
        }
    }
    wanted
}

#[test]
fn after_a_panic_only_freeing_is_left() {
    let rows: Vec<Row> = rows().into_iter().collect();
    let known = rows.iter().map(|row| (row.function.to_owned(), row.handle.to_owned())).collect();
    assert_eq!(wanted(), known, "each function with each of its handles has a row");
    let root = tempfile::tempdir().expect("a folder");
    let world = World { bad: Handles::new(root.path()), good: Handles::new(root.path()) };
    poison(world.bad.node.cast_const());
    poison(world.bad.policy.cast_const());
    poison(world.bad.seen.cast_const());
    poison(world.bad.plan.cast_const());
    for Row { function, handle, call } in rows {
        let mut buf = cpr_buf { ptr: null_mut::<u8>().wrapping_add(1), len: 1, reserved: null_mut() };
        let buf = &raw mut buf;
        let mut error = null_mut();
        assert_eq!(call(&world, buf, &raw mut error), CPR_E_PANIC, "{function} with a poisoned {handle}");
        assert_eq!(cpr_error_code(error), CPR_E_PANIC, "{function} with a poisoned {handle}");
        cpr_error_free(error);
    }
    cpr_node_cancel(world.bad.node);
    world.bad.free();
    // The others are as good as before.
    let mut buf = cpr_buf::EMPTY;
    // SAFETY: the output is a variable.
    unsafe {
        assert_eq!(cpr_node_json(world.bad.node, &raw mut buf, null_mut()), CPR_E_HANDLE);
        assert_eq!(cpr_plan_json(world.good.plan, &raw mut buf, null_mut()), CPR_OK);
        cpr_buf_free(&raw mut buf);
    }
    world.good.free();
}

#[test]
fn a_policy_that_panics_is_poisoned_with_the_node() {
    let root = tempfile::tempdir().expect("a folder");
    let handles = Handles::new(root.path());
    // What a call that decides does, and a policy that panics meanwhile.
    let caught = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let _node = handle::share(handles.node.cast_const()).expect("free");
        let _policy = crate::plan::policy_or_default(handles.policy).expect("free");
        std::panic::resume_unwind(Box::new("asked for"));
    }));
    assert!(caught.is_err());
    let mut buf = cpr_buf::EMPTY;
    // SAFETY: the output is a variable.
    unsafe {
        assert_eq!(cpr_policy_json(handles.policy, &raw mut buf, null_mut()), CPR_E_PANIC);
        assert_eq!(cpr_node_json(handles.node, &raw mut buf, null_mut()), CPR_E_PANIC);
    }
    handles.free();
}
