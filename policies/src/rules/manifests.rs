//! Static-pod manifests: too many of them, or none.

use cprecover_policy_sdk::contract::{
    Action, Backup, Component, Consent, Decision, Manifest, ManifestState, RestoreManifest, Verdict,
};

use super::{Case, Step, escalate, name};

/// How the detail of a manifest begins that is held: kubelet cannot run it, and nobody but a person releases it.
pub const HELD: &str = "is held since";

pub(super) fn duplicates(case: &Case<'_>) -> Step {
    let decisions = case
        .own_manifests()
        .filter(|(manifest, _)| manifest.state == ManifestState::Duplicate)
        .map(|(manifest, component)| {
            case.act(
                Action::QuarantineManifest(manifest.file.clone()),
                format!(
                    "kubelet runs {} beside the manifest of {}; the file that sorts last wins",
                    manifest.file,
                    name(component)
                ),
                Vec::new(),
                0.95,
            )
        })
        .collect();
    Step::then_stop(decisions)
}

pub(super) fn lost(case: &Case<'_>) -> Step {
    let mut decisions = Vec::new();
    let mut stuck = false;
    for (manifest, component) in case.own_manifests() {
        let what = match manifest.state {
            ManifestState::Present | ManifestState::Duplicate => continue,
            ManifestState::Missing if case.manifest_present(component) => continue,
            // A person took it out on purpose; everything else can be mended without it.
            ManifestState::Unreadable if manifest.detail.starts_with(HELD) => {
                decisions.push(escalate(
                    format!("{} {}", manifest.file, manifest.detail),
                    vec![format!("`cprecover release {}` lets kubelet run it again", manifest.file)],
                    Vec::new(),
                ));
                continue;
            }
            ManifestState::Unreadable => {
                stuck = true;
                decisions.push(escalate(
                    format!(
                        "{} cannot be read ({}), so it is not known what it says",
                        manifest.file, manifest.detail
                    ),
                    vec!["check permissions and the disk".into()],
                    Vec::new(),
                ));
                continue;
            }
            ManifestState::Missing => "is missing",
            ManifestState::Invalid => "cannot be parsed by kubelet",
        };
        let decision = remedy(case, manifest, component, what);
        stuck |= matches!(decision.action, Action::Escalate(_));
        decisions.push(decision);
    }
    // Kubelet is restarted only on a complete set of manifests.
    Step { stop: stuck, ..Step::then_go_on(decisions) }
}

fn remedy(case: &Case<'_>, manifest: &Manifest, component: Component, what: &str) -> Decision {
    if let Some(backup) = best_backup(case, component) {
        let kind = if backup.last_known_good { "last known good" } else { "verified" };
        return case.act(
            Action::RestoreManifest(RestoreManifest { component, backup_id: backup.id.clone() }),
            format!("{} {what}; backup {} of this node is {kind}", manifest.file, backup.id),
            Vec::new(),
            if backup.last_known_good { 0.98 } else { 0.9 },
        );
    }
    regenerate(case, manifest, component, what)
}

/// The backup to restore: verified and of this node; last known good before newer.
fn best_backup<'a>(case: &Case<'a>, component: Component) -> Option<&'a Backup> {
    case.seen
        .backups
        .iter()
        .filter(|backup| backup.component == component)
        .filter(|backup| backup.verified == Verdict::Yes && backup.same_node == Verdict::Yes)
        .max_by_key(|backup| (backup.last_known_good, backup.taken_ms))
}

fn regenerate(case: &Case<'_>, manifest: &Manifest, component: Component, what: &str) -> Decision {
    let Some(plan) = case.seen.regenerations.iter().find(|plan| plan.component == component) else {
        return escalate(
            format!("{} {what}, and there is neither a verified backup nor kubeadm", manifest.file),
            vec!["import a backup, or give the path of kubeadm".into()],
            Vec::new(),
        );
    };
    if plan.possible != Verdict::Yes || !plan.missing.is_empty() {
        return escalate(
            format!(
                "{} {what}, without a verified backup; regenerating it needs: {}",
                manifest.file,
                plan.missing.join(", ")
            ),
            vec!["`cprecover regenerate plan` shows what is known and from where".into()],
            Vec::new(),
        );
    }
    if !plan.dangerous.is_empty() && !case.consents(Consent::AcceptRegeneratedChanges) {
        return escalate(
            format!(
                "{} {what}, without a verified backup; regenerated it would change: {}",
                manifest.file,
                plan.dangerous.join(", ")
            ),
            vec!["look at `cprecover regenerate plan`, then agree to `accept-regenerated-changes`".into()],
            Vec::new(),
        );
    }
    case.act(
        Action::RegenerateComponent(component),
        format!("{} {what}, without a verified backup; kubeadm can make it anew", manifest.file),
        Vec::new(),
        0.85,
    )
}
