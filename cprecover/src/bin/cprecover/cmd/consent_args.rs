//! What a caller agrees to beforehand; the same flags wherever a plan is made or applied.

use cprecover::policy::contract::Consent;
use cprecover::recover::RecoverOptions;

/// Steps that are never done without the caller's agreement.
#[derive(Debug, Clone, Default, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each agreement is a flag of its own")]
pub(crate) struct ConsentArgs {
    /// Agree to installing regenerated manifests that need a review.
    #[arg(long)]
    accept_regenerated_changes: bool,
    /// Agree to acting on an etcd member although the cluster's quorum is not known.
    #[arg(long)]
    accept_unknown_quorum: bool,
    /// Agree to renewing expired certificates with kubeadm.
    #[arg(long)]
    accept_renewed_certificates: bool,
    /// Agree to a step on an etcd member although its data could be saved first and saving failed.
    #[arg(long)]
    accept_unsaved_etcd: bool,
}

impl ConsentArgs {
    /// The options of a recovery that the caller agreed to.
    pub(crate) fn options(&self) -> RecoverOptions {
        let mut options = RecoverOptions::default();
        options.consents = self.consents();
        options.accept_unsaved_member = self.accept_unsaved_etcd;
        options
    }

    /// What policies and guard rails get to see of it.
    fn consents(&self) -> Vec<Consent> {
        let all = [
            (self.accept_regenerated_changes, Consent::AcceptRegeneratedChanges),
            (self.accept_unknown_quorum, Consent::UnknownQuorum),
            (self.accept_renewed_certificates, Consent::RenewCertificates),
        ];
        all.into_iter().filter(|(agreed, _)| *agreed).map(|(_, consent)| consent).collect()
    }
}
