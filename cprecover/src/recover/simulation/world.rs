//! The node as the engine's world: effects with their own checks, as the real ones have, and faults.

use std::collections::BTreeSet;
use std::time::Duration;

use super::judge::{Before, Invariant, Judge};
use super::node::{Data, SimNode, Truth, manifest, parse};
use super::see::{self, Blind};
use super::{Sabotage, Setting};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Digest, SandboxId};
use crate::policy::Action;
use crate::recover::act::{self, bounce::REASON};
use crate::recover::{Observation, Performed, TakenBack, Undo, Verification, World};
use crate::sys::{Clock as _, Deadline};

/// What unwinds through the engine when its process is killed or the power is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Killed,
    PowerLost,
}

/// What happens to one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It fails and nothing was done.
    FailsBefore,
    /// It is done, and the answer says that it failed.
    FailsAfter,
    /// It says done, and nothing was done.
    Lies,
    /// It does not come back until its deadline, done or not.
    Hangs {
        done: bool,
    },
    StopsBefore(Stopped),
    /// In the middle of the store's work, at this system call.
    StopsAt(usize, Stopped),
    StopsAfter(Stopped),
    /// The node changed after it was looked at.
    Changes,
    /// It fails in the middle: a service is stopped and not started, a manifest is held and not released,
    /// what was restored is spoilt.
    Half,
}

pub(super) struct SimWorld {
    pub(super) node: SimNode,
    pub(super) judge: Judge,
    pub(super) setting: Setting,
    /// How many stops the run may still have.
    pub(super) stops_left: u32,
    /// How many effects the engine asked for, done or not.
    pub(super) asked: usize,
    /// Effects that failed for another reason than a fault of the simulation.
    pub(super) trace: Vec<String>,
    /// How many undos the engine asked for.
    pub(super) undos: usize,
    /// What half-done effects have left on the node, to be taken back.
    pub(super) left: BTreeSet<Left>,
}

/// What a half-done effect leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    KubeletStopped,
    RuntimeStopped,
    Held(Component),
    Spoilt(Component),
}

/// What a half-done restore leaves.
pub(super) const SPOILT: &[u8] = b"kind: Pod\n  spoilt: [";

/// What kubeadm would make.
pub(super) fn regenerated(component: Component) -> Vec<u8> {
    manifest(component, 9)
}

fn peer(text: &str) -> Error {
    Error::new(ErrorKind::Peer, text)
}

fn changed(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Changed, text.into())
}

impl World for SimWorld {
    fn observe(&mut self, deadline: &Deadline) -> Observation {
        self.node.clock.advance(Duration::from_millis(200));
        self.node.let_peers_live();
        self.node.tick();
        let mut blind = self.blind();
        if self.setting.sabotage == Some(Sabotage::MisreadsHealth) {
            blind.health = true;
        }
        if self.setting.faults && self.node.random.percent(1) {
            self.stop_if_allowed(Stopped::Killed, "while it looks");
            // Everything hangs: the look ends at its deadline, or what is left of four seconds.
            self.node.clock.advance(deadline.remaining().min(Duration::from_secs(4)));
            blind = Blind::to_everything();
        }
        let seen = see::observe(&self.node, blind);
        let (healthy, called) = (self.node.is_healthy(), Verification::of(&seen).healthy);
        let complete = !blind.to_anything() || self.setting.sabotage.is_some();
        if (called && !healthy) || (complete && healthy && !called && self.setting.sabotage.is_none()) {
            let text =
                format!("a node that is healthy={healthy} is called {called}: {:?}", Self::unproven(&seen));
            self.judge.break_off(Invariant::Verified, text);
        }
        self.judge.saw(healthy, complete, self.setting.policy != super::Chosen::Hostile);
        seen
    }

    fn perform(&mut self, action: &Action, seen: &Observation, deadline: &Deadline) -> Result<Performed> {
        self.asked += 1;
        let fault = self.fault();
        self.trace.push(format!("{:?} {action} [{fault:?}]", self.node.clock.elapsed()));
        let _ = seen;
        let result = self.perform_with(action, fault, deadline);
        let told = result.as_ref().map_or_else(ToString::to_string, |done| done.detail.clone());
        self.trace.push(format!("  {told}"));
        result
    }

    fn undo_of(&mut self, action: &Action, seen: &Observation) -> Option<Undo> {
        act::undo::undo_of(action, seen, |component| {
            let visible = self.node.files.visible();
            visible.get(component.manifest_file()).map(|bytes| Digest::of(bytes))
        })
    }

    fn undo(&mut self, undo: &Undo, _since: u64, deadline: &Deadline) -> Result<TakenBack> {
        self.undos += 1;
        let fault = self.fault();
        self.trace.push(format!("{:?} undo: {undo} [{fault:?}]", self.node.clock.elapsed()));
        let result = self.undo_with(undo, fault, deadline);
        if result.is_err() {
            // What a fault leaves is the fault's.
            self.left.clear();
        }
        self.trace.push(format!("  {result:?}"));
        result
    }
}

impl SimWorld {
    fn blind(&mut self) -> Blind {
        if !self.setting.faults || !self.setting.blind {
            return Blind::default();
        }
        let mut eye = || self.node.random.percent(6);
        Blind {
            runtime: eye(),
            health: eye(),
            backups: eye(),
            data: eye(),
            members: eye(),
            services: eye(),
            holders: eye(),
            manifests: eye(),
        }
    }

    fn fault(&mut self) -> Fault {
        let random = &mut self.node.random;
        if !self.setting.faults || !random.percent(self.setting.fault_percent) {
            return Fault::None;
        }
        let stop = if random.percent(50) { Stopped::Killed } else { Stopped::PowerLost };
        match random.below(11) {
            0 => Fault::FailsBefore,
            1 => Fault::FailsAfter,
            2 => Fault::Lies,
            3 => Fault::Hangs { done: random.percent(50) },
            4 => Fault::StopsBefore(stop),
            5 | 6 => Fault::StopsAt(random.index(220), stop),
            7 => Fault::StopsAfter(stop),
            8 | 9 => Fault::Half,
            _ => Fault::Changes,
        }
    }

    /// Unwinds through the engine, as if its process ended here.
    fn stop_if_allowed(&mut self, stopped: Stopped, when: &str) {
        if self.stops_left == 0 {
            return;
        }
        self.stops_left -= 1;
        self.trace.push(format!("  {stopped:?} {when}"));
        match stopped {
            Stopped::Killed => self.node.files.killed(),
            Stopped::PowerLost => {
                let mut random = self.node.random.clone();
                self.node.files.crashed(|limit| random.index(limit));
                self.node.random.next();
                self.node.reboot();
            }
        }
        self.judge.check_files(&self.node);
        // Not a panic: no message, no backtrace, but the same unwinding.
        std::panic::resume_unwind(Box::new(stopped));
    }

    fn perform_with(&mut self, action: &Action, fault: Fault, deadline: &Deadline) -> Result<Performed> {
        match fault {
            Fault::FailsBefore => return Err(peer("failed by the simulation, nothing was done")),
            Fault::Lies => return Ok(Performed::new("done, says the simulation, and did nothing")),
            Fault::StopsBefore(stopped) => self.stop_if_allowed(stopped, "before the effect"),
            Fault::Changes => {
                self.change_behind_the_engines_back();
                // What kubelet makes of it is not the effect's doing.
                self.node.tick();
            }
            Fault::Hangs { done: false } => return self.hang(deadline),
            _ => {}
        }
        if !self.unguarded() {
            self.precondition(action)?;
        }
        let before = self.judge.before(&self.node, action);
        if let Fault::StopsAt(call, _) = fault
            && self.stops_left > 0
        {
            self.node.files.stop_at(call);
        }
        if fault == Fault::Half
            && let Some(left) = self.half(action)?
        {
            self.left.insert(left);
            self.judge.after(&self.node, action, &before);
            return Err(peer(&format!("failed half done by the simulation: {left:?}")));
        }
        let result = self.effect(action, &before, deadline);
        self.forget_what_is_mended();
        if let Fault::StopsAt(_, stopped) = fault
            && self.stops_left > 0
        {
            self.stop_if_allowed(stopped, "in the store's work");
        }
        self.node.clock.advance(Duration::from_millis(300));
        self.judge.after(&self.node, action, &before);
        match fault {
            Fault::StopsAfter(stopped) => self.stop_if_allowed(stopped, "after the effect"),
            Fault::FailsAfter => return result.and(Err(peer("failed by the simulation, all was done"))),
            Fault::Hangs { .. } => return self.hang(deadline),
            _ => {}
        }
        result
    }

    /// Does the first half of an effect that has halves.
    fn half(&mut self, action: &Action) -> Result<Option<Left>> {
        let (options, now) = (self.node.options.clone(), self.node.clock.unix());
        Ok(match action {
            Action::RestartKubelet if self.node.kubelet_up => {
                self.node.kubelet_up = false;
                Some(Left::KubeletStopped)
            }
            Action::RestartRuntime if self.node.runtime_up => {
                self.node.runtime_up = false;
                Some(Left::RuntimeStopped)
            }
            Action::BounceStaticPod { component } => {
                self.node.files.hold(&options, now, component.manifest_file(), REASON)?;
                self.node.tick();
                Some(Left::Held(*component))
            }
            Action::RestoreManifest { component, backup_id } => {
                let file = component.manifest_file();
                if !self.node.files.visible().contains_key(file) || self.node.is_bounced(*component) {
                    return Ok(None);
                }
                self.node.files.restore(&options, now, backup_id, *component)?;
                self.node.files.write(file, SPOILT)?;
                self.node.tick();
                Some(Left::Spoilt(*component))
            }
            _ => None,
        })
    }

    /// Later effects, and other people, may have mended what was left.
    pub(super) fn forget_what_is_mended(&mut self) {
        let node = &self.node;
        self.left.retain(|left| match left {
            Left::KubeletStopped => !node.kubelet_up,
            Left::RuntimeStopped => !node.runtime_up,
            Left::Held(component) => node.is_bounced(*component),
            Left::Spoilt(component) => {
                let visible = node.files.visible();
                visible.get(component.manifest_file()).is_some_and(|bytes| bytes == SPOILT)
            }
        });
    }

    fn undo_with(&mut self, undo: &Undo, fault: Fault, deadline: &Deadline) -> Result<TakenBack> {
        match fault {
            Fault::FailsBefore => return Err(peer("failed by the simulation, nothing was taken back")),
            Fault::StopsBefore(stopped) => self.stop_if_allowed(stopped, "before the undo"),
            Fault::Hangs { done: false } => return self.hang(deadline).map(|_| unreachable!("it hung")),
            Fault::StopsAt(call, _) if self.stops_left > 0 => self.node.files.stop_at(call),
            _ => {}
        }
        if self.setting.sabotage == Some(Sabotage::UndoesNothing) {
            return Ok(TakenBack::Done("done, says a broken undo".into()));
        }
        let voters = self.judge.before_undo(&self.node);
        let result = self.take_back(undo);
        if let Fault::StopsAt(_, stopped) = fault
            && self.stops_left > 0
        {
            self.stop_if_allowed(stopped, "in the store's work of an undo");
        }
        let result = result?;
        self.node.clock.advance(Duration::from_millis(300));
        self.judge.after_undo(&self.node, undo, &voters);
        self.forget_what_is_mended();
        match fault {
            Fault::StopsAfter(stopped) => self.stop_if_allowed(stopped, "after the undo"),
            Fault::FailsAfter => return Err(peer("failed by the simulation, all was taken back")),
            Fault::Hangs { .. } => return self.hang(deadline).map(|_| unreachable!("it hung")),
            _ => {}
        }
        Ok(result)
    }

    /// The undos, with the preconditions of the real ones.
    fn take_back(&mut self, undo: &Undo) -> Result<TakenBack> {
        let (options, now) = (self.node.options.clone(), self.node.clock.unix());
        let kept = |why: &str| Ok(TakenBack::Kept(why.into()));
        match undo {
            Undo::ReleaseManifest { component } => {
                if !self.node.is_bounced(*component) {
                    return kept("it is not held for a bounce");
                }
                self.node.files.release(&options, now, component.manifest_file())?;
            }
            Undo::PutManifestBack { component, before } => {
                let file = component.manifest_file();
                let stands = self.node.files.visible().get(file).cloned();
                if self.node.wanted(*component).is_some() {
                    return kept("it is valid");
                }
                if stands.is_some_and(|bytes| Digest::of(&bytes) == *before) {
                    return kept("it is as it was");
                }
                if !self.node.files.put_back(&options, now, file, *before)? {
                    return Err(Error::new(ErrorKind::NotFound, "no snapshot holds it"));
                }
            }
            Undo::ReleaseDuplicate { component, file } => {
                if self.node.wanted(*component).is_some() {
                    return kept("its own manifest stands");
                }
                let held = self.node.files.held(&options, now, file)?;
                if held.as_deref() != Some("simulated") {
                    return kept("it is not held as a duplicate");
                }
                if *component == Component::Etcd && matches!(self.node.data, Data::Empty | Data::Missing) {
                    return Err(Error::new(ErrorKind::Refused, "etcd would begin an empty cluster"));
                }
                self.node.files.release(&options, now, file)?;
            }
            Undo::StartKubelet => {
                if self.node.kubelet_up {
                    return kept("kubelet runs");
                }
                if !self.node.runtime_up {
                    return Err(peer("the runtime does not answer"));
                }
                if self.node.runs_without_manifest().is_some() {
                    return kept("it would end what has no manifest");
                }
                self.node.kubelet_up = true;
            }
            Undo::StartRuntime => {
                if self.node.runtime_up {
                    return kept("the runtime runs");
                }
                if self.node.runs_without_manifest() == Some(Component::Etcd) {
                    return kept("etcd runs without a manifest");
                }
                self.node.runtime_up = true;
            }
            Undo::PutPodFolderBack { .. } => return kept("the simulation has no pod folders"),
        }
        self.node.tick();
        Ok(TakenBack::Done(format!("{undo}: done")))
    }

    fn hang(&mut self, deadline: &Deadline) -> Result<Performed> {
        let left = match self.setting.sabotage {
            Some(Sabotage::HangsForEver) => Duration::from_hours(10),
            _ => deadline.remaining(),
        };
        self.node.clock.advance(left);
        Err(Error::new(ErrorKind::Timeout, "hung until its deadline"))
    }

    /// Somebody else repairs or breaks something between look and effect.
    fn change_behind_the_engines_back(&mut self) {
        match self.node.random.below(4) {
            0 => self.node.processes.retain(|process| process.truth != Truth::Orphan),
            1 => {
                for part in self.node.parts.values_mut() {
                    let last = part.sandboxes.pop();
                    part.sandboxes.clear();
                    part.sandboxes.extend(last);
                }
            }
            2 => {
                let component = self.node.random.pick(&Component::ALL);
                let missing = !self.node.files.visible().contains_key(component.manifest_file());
                if missing && !self.node.founded_by(component) {
                    self.node.files.write(component.manifest_file(), &manifest(component, 1)).expect("write");
                    self.judge.check_files(&self.node);
                }
            }
            _ => self.node.kubelet_up = true,
        }
    }

    fn unguarded(&self) -> bool {
        self.setting.sabotage == Some(Sabotage::GuardSleeps)
    }

    fn unproven(seen: &Observation) -> Vec<String> {
        Verification::of(seen).failed().map(|check| format!("{}: {}", check.what, check.seen)).collect()
    }

    /// What the real action checks right before its effect, from what is true now.
    fn precondition(&self, action: &Action) -> Result<()> {
        match action {
            Action::TerminateHolder { process, .. } => {
                let known = self.node.processes.iter().find(|known| known.id == *process);
                match known.map(|known| known.truth) {
                    Some(Truth::Orphan) => Ok(()),
                    Some(_) => Err(changed(format!("{process} is no orphan any more"))),
                    None => Err(changed(format!("{process} does not hold the port any more"))),
                }
            }
            Action::RemoveSandbox { sandbox } => {
                if !self.node.runtime_up {
                    return Err(peer("the runtime does not answer"));
                }
                match self.node.stale(sandbox) {
                    Some(false) => Err(changed(format!("sandbox {sandbox} is not stale any more"))),
                    _ => Ok(()),
                }
            }
            Action::RestoreManifest { component, .. } | Action::RegenerateComponent { component } => {
                let live = self.node.files.visible().get(component.manifest_file()).cloned();
                if live.is_some_and(|bytes| parse(&bytes).is_some()) {
                    return Err(changed(format!("{component} is there and valid now")));
                }
                if *component == Component::Etcd && matches!(self.node.data, Data::Empty | Data::Missing) {
                    return Err(Error::new(ErrorKind::Refused, "etcd would begin an empty cluster"));
                }
                Ok(())
            }
            Action::QuarantineManifest { file } => {
                if Component::ALL.iter().any(|component| component.manifest_file() == file) {
                    let text = format!("{file} is a component's own manifest");
                    return Err(Error::new(ErrorKind::Refused, text));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn effect(&mut self, action: &Action, before: &Before, deadline: &Deadline) -> Result<Performed> {
        if self.setting.sabotage == Some(Sabotage::NothingHelps) {
            return Ok(Performed::new("done, says a broken effect"));
        }
        let (options, now) = (self.node.options.clone(), self.node.clock.unix());
        match action {
            Action::TerminateHolder { process, .. } => self.node.terminate(*process),
            Action::RemoveSandbox { sandbox } => {
                for part in self.node.parts.values_mut() {
                    part.sandboxes.retain(|known| known.id != sandbox.as_str());
                }
            }
            Action::RestoreManifest { component, .. }
                if self.setting.sabotage == Some(Sabotage::OverwritesWithoutBackup) =>
            {
                self.node.files.write(component.manifest_file(), &manifest(*component, 1))?;
            }
            Action::RestoreManifest { component, .. } | Action::RegenerateComponent { component }
                if self.node.is_bounced(*component) =>
            {
                self.node.files.release(&options, now, component.manifest_file())?;
            }
            Action::RestoreManifest { component, backup_id } => {
                self.node.files.restore(&options, now, backup_id, *component)?;
            }
            Action::RegenerateComponent { component } => {
                self.node.files.install(
                    &options,
                    now,
                    component.manifest_file(),
                    &regenerated(*component),
                )?;
            }
            Action::QuarantineManifest { file } => self.node.files.set_aside(&options, now, file)?,
            Action::RestartKubelet => {
                self.node.kubelet_up = true;
                for part in self.node.parts.values_mut() {
                    part.stuck = false;
                    part.crashes = 0;
                    part.back_off_until_ms = 0;
                }
            }
            Action::RestartRuntime => self.node.runtime_up = true,
            Action::BounceStaticPod { component } => self.bounce(*component, action, before, deadline)?,
            other => return Err(Error::new(ErrorKind::Unsupported, format!("{other} is not implemented"))),
        }
        self.node.tick();
        Ok(Performed::new("done"))
    }

    /// Hold, wait, release whatever came of the wait, wait.
    fn bounce(
        &mut self,
        component: Component,
        action: &Action,
        before: &Before,
        deadline: &Deadline,
    ) -> Result<()> {
        let (options, now) = (self.node.options.clone(), self.node.clock.unix());
        let file = component.manifest_file();
        self.node.files.hold(&options, now, file, REASON)?;
        self.node.clock.advance(Duration::from_secs(20).min(deadline.remaining()));
        self.node.tick();
        self.judge.after(&self.node, action, before);
        if self.setting.faults && self.node.random.percent(30) {
            self.stop_if_allowed(Stopped::Killed, "while a manifest is held");
        }
        self.node.files.release(&options, self.node.clock.unix(), file)?;
        self.node.tick();
        Ok(())
    }
}

impl SimNode {
    /// Whether putting this component's manifest back by hand would begin a new etcd cluster.
    fn founded_by(&self, component: Component) -> bool {
        component == Component::Etcd && self.data != super::node::Data::Intact
    }

    /// A component whose container runs though no manifest stands for it; etcd first.
    fn runs_without_manifest(&self) -> Option<Component> {
        Component::ALL.into_iter().find(|component| {
            let runs = self
                .parts
                .get(component)
                .is_some_and(|part| part.sandboxes.iter().any(|s| s.runs().is_some()));
            runs && self.wanted(*component).is_none()
        })
    }

    /// Whether an engine holds a manifest that it died over.
    fn is_bounced(&self, component: Component) -> bool {
        let held = self.files.held(&self.options, self.clock.unix(), component.manifest_file());
        held.is_ok_and(|reason| reason.as_deref() == Some(REASON))
    }

    /// Whether a sandbox is older than its pod's newest and from another manifest; none when it is gone.
    fn stale(&self, sandbox: &SandboxId) -> Option<bool> {
        self.parts.values().find_map(|part| {
            let last = part.sandboxes.last()?;
            let known = part.sandboxes.iter().find(|known| known.id == sandbox.as_str())?;
            Some(known.hash != last.hash)
        })
    }

    /// Ends whatever has this pid.
    fn terminate(&mut self, process: crate::model::ProcessId) {
        if let Some(index) = self.processes.iter().position(|known| known.id == process) {
            let ended = self.processes.remove(index);
            if let Truth::OtherMember(member) = ended.truth {
                self.members[member].healthy = false;
            }
        }
        let containers = self.parts.values_mut().flat_map(|part| &mut part.sandboxes);
        for container in containers.filter_map(|sandbox| sandbox.container.as_mut()) {
            container.running &= container.pid != process.pid.get();
        }
    }
}
