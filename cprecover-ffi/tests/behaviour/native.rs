//! The Rust API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::backup::{CreateOptions, RestoreOptions, Selection, Store};
use cprecover::diagnose::diagnose;
use cprecover::etcd;
use cprecover::kubeadm::{Acceptance, Options, RegenerationPlan, Severity};
use cprecover::model::{Component, Digest, Pid, PodUid, Port, ProcessId};
use cprecover::policy::{LoadOptions, Policy, PolicyCache, RunLimits, TrustedKey, guard};
use cprecover::recover::{
    AuditLog, Engine, Host, LiveNode, NodeLock, NodeWorld, Observation, Plan, PortQuestion, RecoverOptions,
    WatchOptions, Watcher, apply_regeneration, end_holder, history, list_pods, observe, plan_regeneration,
    policy_view, port_report, quarantine_leftover_pods, quarantine_pods, support_bundle_file,
    undo_quarantine,
};
use cprecover::sys::{CancelToken, Clock as _, Deadline, SystemClock};
use cprecover::{Error, ErrorKind, NodeOptions};
use serde::Serialize;
use serde_json::{Value, json};

use crate::surface::{Answer, Bounds, Cprecover, Failed, Process, Regenerate, Restore, Trust};

/// The library, called as a Rust program calls it.
pub(crate) struct Native {
    node: NodeOptions,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { kind: error.kind().as_str().to_owned(), message: error.to_string() }
    }
}

fn value(of: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(of).expect("serialises");
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove("schema");
    }
    value
}

impl Bounds {
    fn deadline(self) -> Deadline {
        let cancel = CancelToken::default();
        if self.cancelled {
            cancel.cancel();
        }
        let time = if self.timeout_ms == 0 { 300_000 } else { self.timeout_ms };
        Deadline::after(Duration::from_millis(time)).with_cancel(cancel)
    }
}

fn component(name: &str) -> Result<Component, Failed> {
    Ok(name.parse::<Component>()?)
}

fn policy(name: &str) -> Result<Policy, Failed> {
    Ok(if name.is_empty() { Policy::builtin()? } else { Policy::shipped(name)? })
}

impl Native {
    fn host(&self) -> Host<'_> {
        Host::new(&self.node)
    }

    fn observation(&self, bounds: Bounds) -> Result<Observation, Failed> {
        let deadline = bounds.deadline();
        let seen = observe(&self.host(), &deadline);
        if deadline.is_cancelled() {
            deadline.check("observe")?;
        }
        Ok(seen)
    }

    fn file(name: &str) -> &str {
        name.parse::<Component>().map_or(name, |component| component.manifest_file())
    }

    fn run(&self, policy: &Policy, options: &RecoverOptions, bounds: Bounds) -> Answer {
        let mut world = NodeWorld::new(self.host(), options.consents.clone());
        let decide = |seen: &cprecover::policy::Observation| policy.decide(seen);
        let deadline = bounds.deadline();
        if options.dry_run {
            let past = AuditLog::read_if_any(&self.node.store())?;
            let mut engine = Engine::new(&mut world, &decide, &SystemClock, None, options).with_past(&past);
            return Ok(value(&engine.run(&deadline, &mut |_| {})?));
        }
        let store = self.node.store();
        let _lock = NodeLock::acquire(&store)?;
        let mut log = AuditLog::open(&store, u64::try_from(SystemClock.unix().as_millis()).expect("now"))?;
        let mut engine = Engine::new(&mut world, &decide, &SystemClock, Some(&mut log), options);
        Ok(value(&engine.run(&deadline, &mut |_| {})?))
    }

    fn regeneration(&self, name: &str, given: Regenerate<'_>) -> Result<RegenerationPlan, Failed> {
        let wanted = [component(name)?];
        let mut options = Options::default();
        options.config =
            (!given.config.is_empty()).then(|| ("the caller's config".to_owned(), given.config.into()));
        options.assume_defaults = given.assume_defaults.iter().map(|&name| name.to_owned()).collect();
        options.etcd_member_just_added = given.etcd_member_just_added;
        Ok(plan_regeneration(&self.host(), &wanted, &options, &Bounds::usual().deadline())?)
    }
}

impl Cprecover for Native {
    const NAME: &'static str = "Rust API";

    fn open(root: &Path, config: &str) -> Result<Self, Failed> {
        if config.is_empty() {
            return Ok(Self { node: NodeOptions::load(root)? });
        }
        let mut node: NodeOptions = cprecover::parse::yaml::from_slice(config.as_bytes())?;
        root.clone_into(&mut node.root);
        Ok(Self { node })
    }

    fn node_options(&self) -> Answer {
        Ok(value(&self.node))
    }

    fn health(status: u16, body: &[u8]) -> Answer {
        Ok(value(&cprecover::healthz::parse_response((status != 0).then_some(status), body)))
    }

    fn policy(name: &str, trust: Trust<'_>) -> Answer {
        let mut options = LoadOptions::default();
        if !trust.sha256.is_empty() {
            options.expected = Some(trust.sha256.parse::<Digest>()?);
        }
        if !trust.key.is_empty() {
            options.keys.push(TrustedKey::from_pem("options.key", trust.key)?);
        }
        if !trust.cache.is_empty() {
            options.cache = PolicyCache::open(Path::new(trust.cache))?;
        }
        let policy = if name.contains('/') {
            Policy::load(Path::new(name), &options)?
        } else if name.is_empty() {
            let (Some(cache), Some(digest)) = (&options.cache, &options.expected) else {
                return Err(Error::new(ErrorKind::NotFound, "no cache").into());
            };
            Policy::installed(cache, digest, RunLimits::default())?
                .ok_or_else(|| Error::new(ErrorKind::NotFound, "not installed"))?
        } else {
            Policy::shipped_with(name, &options)?
        };
        Ok(value(policy.identity()))
    }

    fn port(&self, port: u16, address: &str, wanted_by: &str, bounds: Bounds) -> Answer {
        let mut question = PortQuestion::new(Port::new(port).expect("a port"));
        question.address = (!address.is_empty()).then(|| address.parse().expect("an address"));
        question.wanted_by = if wanted_by.is_empty() { None } else { Some(component(wanted_by)?) };
        Ok(value(&port_report(&self.host(), &question, &bounds.deadline())?))
    }

    fn terminate(&self, port: u16, process: Process, dry_run: bool) -> Answer {
        let question = PortQuestion::new(Port::new(port).expect("a port"));
        let process =
            ProcessId { pid: Pid::new(process.pid).expect("a pid"), start_ticks: process.start_ticks };
        Ok(value(&end_holder(&self.host(), &question, process, dry_run, &Bounds::usual().deadline())?))
    }

    fn backup(&self, reason: &str, only_if_changed: bool, bounds: Bounds) -> Answer {
        let mut options = CreateOptions::default();
        reason.clone_into(&mut options.reason);
        options.only_if_changed = only_if_changed;
        Ok(value(&Store::open(&self.node)?.create(&options, &bounds.deadline())?))
    }

    fn backups(&self) -> Answer {
        Ok(json!({"snapshots": value(&Store::open_read_only(&self.node)?.list()?)}))
    }

    fn verify(&self, id: &str, bounds: Bounds) -> Answer {
        let store = Store::open_read_only(&self.node)?;
        Ok(value(&store.verify(&store.resolve(id)?, &bounds.deadline())?))
    }

    fn restore(&self, id: &str, given: Restore<'_>) -> Answer {
        let mut options = RestoreOptions::default();
        options.dry_run = given.dry_run;
        options.other_node = given.other_node;
        options.below = (!given.below.is_empty()).then(|| PathBuf::from(given.below));
        let selection = match given.component {
            "" => Selection::All,
            name => Selection::Components(vec![component(name)?]),
        };
        let store = Store::open(&self.node)?;
        Ok(value(&store.restore(&store.resolve(id)?, &selection, &options, &Bounds::usual().deadline())?))
    }

    fn hold(&self, name: &str, reason: &str) -> Answer {
        let held = Store::open(&self.node)?.hold(Self::file(name), reason, &Bounds::usual().deadline())?;
        Ok(json!({"held": [value(&held)]}))
    }

    fn release(&self, name: &str) -> Answer {
        let held = Store::open(&self.node)?.release(Self::file(name), &Bounds::usual().deadline())?;
        Ok(json!({"held": [value(&held)]}))
    }

    fn held(&self) -> Answer {
        Ok(json!({"held": value(&Store::open_read_only(&self.node)?.held()?)}))
    }

    fn look(&self, bounds: Bounds) -> Result<(Value, Value), Failed> {
        let seen = self.observation(bounds)?;
        Ok((value(&seen), value(&diagnose(&seen.facts))))
    }

    fn plan(&self, name: &str) -> Answer {
        let past = match AuditLog::read(&self.node.store()) {
            Ok(entries) => history(&entries),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let seen = self.observation(Bounds::usual())?;
        let view = policy_view(&seen, &diagnose(&seen.facts), past, &[]);
        let outcome = policy(name)?.decide(&view);
        let guarded = guard::check(&view, &outcome.decisions);
        Ok(serde_json::to_value(Plan::new(&seen, &outcome, &guarded)?).expect("serialises"))
    }

    fn read_plan(text: &[u8]) -> Answer {
        Ok(serde_json::to_value(Plan::from_json(text)?).expect("serialises"))
    }

    fn apply(&self, plan: &[u8]) -> Answer {
        let mut options = RecoverOptions::default();
        options.approved = Some(Plan::from_json(plan)?);
        self.run(&policy("")?, &options, Bounds::usual())
    }

    fn recover(&self, name: &str, dry_run: bool, bounds: Bounds) -> Answer {
        let mut options = RecoverOptions::default();
        options.dry_run = dry_run;
        self.run(&policy(name)?, &options, bounds)
    }

    fn watch(&self, events: usize, bounds: Bounds) -> Result<Vec<Value>, Failed> {
        let policy = policy("")?;
        let decide = |seen: &cprecover::policy::Observation| policy.decide(seen);
        let host = self.host();
        let mut live = LiveNode::new(&host, &decide, RecoverOptions::default());
        let mut options = WatchOptions::default();
        options.probe_every = Duration::from_secs(1);
        options.recheck_every = Duration::from_secs(1);
        options.sick_after = 1;
        let mut watcher = Watcher::new(&self.node, &mut live, &SystemClock, options);
        let deadline = bounds.deadline();
        let mut told = Vec::new();
        while told.len() < events {
            match watcher.next(&deadline, &mut |_| {})? {
                Some(event) => told.push(value(&event)),
                None => break,
            }
        }
        if deadline.is_cancelled() {
            deadline.check("watch")?;
        }
        Ok(told)
    }

    fn plan_regeneration(&self, component: &str, given: Regenerate<'_>) -> Answer {
        let plan = self.regeneration(component, given)?;
        let mut shown = value(&plan);
        shown["objections"] = value(&plan.objections(Acceptance::default()));
        Ok(shown)
    }

    fn regenerate(&self, component: &str) -> Answer {
        let plan = self.regeneration(component, Regenerate::default())?;
        let acceptance = Acceptance::up_to(Severity::NeedsReview).without_comparison();
        Ok(value(&apply_regeneration(&self.host(), &plan, acceptance, &Bounds::usual().deadline())?))
    }

    fn audit(&self) -> Answer {
        Ok(json!({"items": value(&AuditLog::read(&self.node.store())?)}))
    }

    fn pods(&self) -> Answer {
        Ok(value(&list_pods(&self.host(), &Bounds::usual().deadline())?))
    }

    fn quarantine(&self, uids: &[&str]) -> Answer {
        let _lock = NodeLock::acquire(&self.node.store())?;
        let deadline = Bounds::usual().deadline();
        if uids.is_empty() {
            return Ok(value(&quarantine_leftover_pods(&self.host(), &deadline)?));
        }
        let uids: Vec<PodUid> = uids.iter().map(|uid| PodUid::new(*uid)).collect();
        Ok(value(&quarantine_pods(&self.host(), &uids, &deadline)?))
    }

    fn undo_quarantine(&self, folder: &str) -> Answer {
        let _lock = NodeLock::acquire(&self.node.store())?;
        let folder = (!folder.is_empty()).then_some(Path::new(folder));
        Ok(value(&undo_quarantine(&self.host(), folder, &Bounds::usual().deadline())?))
    }

    fn etcd_status(&self) -> Answer {
        let client = etcd::Client::of_manifest(&self.node)?;
        Ok(value(&etcd::status(&client, &Bounds::usual().deadline())?))
    }

    fn check_etcd(&self, data_dir: &str) -> Answer {
        let deadline = Bounds::usual().deadline();
        if data_dir.is_empty() {
            return Ok(value(&etcd::check_node(&self.node, &deadline)));
        }
        Ok(value(&etcd::check(Path::new(data_dir), &deadline)))
    }

    fn save_etcd(&self, to: &Path) -> Answer {
        let client = etcd::Client::of_manifest(&self.node)?;
        Ok(value(&etcd::snapshot(&client, to, &Bounds::usual().deadline())?))
    }

    fn support_bundle(&self, to: &Path, bounds: Bounds) -> Answer {
        let policy = Policy::builtin()?;
        let decide = |seen: &cprecover::policy::Observation| policy.decide(seen);
        Ok(value(&support_bundle_file(&self.host(), &decide, to, &bounds.deadline())?))
    }
}
