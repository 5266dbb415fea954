//! Regenerates static-pod manifests with the real `kubeadm`, in a staging folder.
//!
//! kubeadm's own phases write straight into the live folder, without a backup and without a check, and
//! succeed with defaults when they get no config (measured with 1.36.2: testdata/incident-lost). This
//! module reconstructs the config offline ([`reconstruct`]), lets kubeadm render into a folder of ours
//! ([`plan`]), compares the result with the last known good manifests and hands the files to an
//! [`Installer`] ([`apply`]) only when the caller accepts what is not harmless.

mod apply;
mod capture;
mod certs;
mod checks;
mod clues;
mod compare;
mod config;
mod defaults;
mod etcd;
mod evidence;
mod extras;
mod facts;
mod folder;
mod gather;
mod identity;
mod kubectl;
mod namespace;
mod origin;
mod plan;
mod program;
mod read;
mod reconstruct;
mod reconstruction;
mod render;
mod severity;
mod sources;
mod staging;
mod text;
mod verbose;
mod version;

pub use crate::cri::Mount as RuntimeMount;
pub use apply::{Acceptance, Applied, Installer, apply};
pub use capture::{Captured, ClusterReader, EitherReader, capture};
pub use certs::{Renewal, RenewalPlan, RenewedFile, plan_renewal};
pub use checks::{Check, CheckOutcome};
pub use compare::{ComponentDiff, Difference, compare};
pub use config::{Arg, ComponentSettings, Config, EnvVar, Etcd, ExternalEtcd, HostPathMount, LocalEtcd};
pub use defaults::{command_line, default_arguments};
pub(crate) use etcd::is_stacked;
pub use kubectl::Kubectl;
pub use origin::{Conflict, Origin, OriginatedField, Unknown};
pub use plan::{Options, RegenerationPlan, StagedFile, plan};
pub use reconstruct::reconstruct;
pub use reconstruction::Reconstruction;
pub use severity::Severity;
pub use sources::{
    CertificateSource, EtcdDataState, ManifestOrigin, ManifestSource, RuntimeContainer, Sources,
};
pub use text::yaml_text;
pub use version::{ApiVersion, KubeadmVersion};
