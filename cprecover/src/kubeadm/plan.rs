//! A regeneration as a plan: rendered, compared and checked, with nothing live touched.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::checks::{self, Check, CheckOutcome};
use super::compare::{ComponentDiff, compare};
use super::config::{ComponentSettings, Config};
use super::defaults::pki;
use super::extras::section;
use super::program::Program;
use super::reconstruct::reconstruct;
use super::reconstruction::Reconstruction;
use super::sources::{EtcdDataState, ManifestOrigin, ManifestSource, Sources};
use super::staging::{LiveFolder, PhaseError, Staging};
use super::version::{ApiVersion, KubeadmVersion};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Component, Digest, Observed};
use crate::node::NodeOptions;
use crate::parse::manifest::StaticPod;
use crate::parse::yaml::MAX_DOCUMENT_BYTES;
use crate::sys::{Clock as _, Commands, Deadline, SystemClock, read_bounded};

/// How a regeneration is done.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The kubeadm program as an absolute path for us; [`NodeOptions::kubeadm`], then the node's usual
    /// folders, when not given.
    pub kubeadm: Option<PathBuf>,
    /// A kubeadm config and its name, believed before all that is found on the node and in backups.
    pub config: Option<(String, Vec<u8>)>,
    /// Where the staging folder is made; below the store when not given.
    pub staging_parent: Option<PathBuf>,
    /// A uid that may own kubeadm besides root and ourselves.
    pub trusted_uid: Option<u32>,
    /// Paths of unknown values for which the caller takes kubeadm's defaults, knowingly.
    pub assume_defaults: Vec<String>,
    /// The caller says that a healthy member has just removed this etcd member and added it again, so that
    /// it may start without data.
    pub etcd_member_just_added: bool,
    /// Refuse a kubeadm whose phases have no `--dry-run`, instead of hiding the live folder from it in
    /// a private mount namespace.
    pub no_mount_namespace: bool,
    /// The wall clock, since 1970, by which certificates are judged; the system's when not given.
    pub now: Option<Duration>,
}

impl Options {
    /// Adds the caller's config to what was found.
    pub(super) fn sources<'a>(&self, found: &'a Sources) -> Cow<'a, Sources> {
        if self.config.is_none() {
            return Cow::Borrowed(found);
        }
        let mut all = found.clone();
        all.caller_config.clone_from(&self.config);
        Cow::Owned(all)
    }
}

/// One manifest that kubeadm rendered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StagedFile {
    /// The component.
    pub component: Component,
    /// The file exactly as kubeadm wrote it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The live file at planning time; the installer must find it unchanged.
    pub replaces: Observed<Digest>,
}

/// What a regeneration would do; nothing live was touched to make it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RegenerationPlan {
    /// The program that rendered.
    pub kubeadm: PathBuf,
    /// Its version.
    pub kubeadm_version: KubeadmVersion,
    /// The config API version that was used.
    pub api_version: ApiVersion,
    /// The config document that kubeadm got.
    #[serde(skip)]
    pub config: Vec<u8>,
    /// The reconstructed config, origins, unknowns and conflicts.
    pub reconstruction: Reconstruction,
    /// What kubeadm rendered.
    pub files: Vec<StagedFile>,
    /// The comparison with what is known good.
    pub diffs: Vec<ComponentDiff>,
    /// The checks.
    pub checks: Vec<Check>,
}

/// Renders `components` with kubeadm into a staging folder and judges the result.
///
/// # Errors
/// [`ErrorKind::Missing`] when values are not known (the message lists them); [`ErrorKind::Refused`] for
/// a kubeadm that others could have replaced; [`ErrorKind::Unsupported`] for a kubeadm too old or too
/// new; [`ErrorKind::NotFound`] when there is none; [`ErrorKind::Peer`] when it fails, prints or writes
/// nonsense, or touches the live folder; [`ErrorKind::Unsupported`] too for what a dry run of kubeadm leaves
/// out; [`ErrorKind::Timeout`] when it hangs.
pub fn plan(
    node: &NodeOptions,
    components: &[Component],
    sources: &Sources,
    options: &Options,
    commands: &dyn Commands,
    deadline: &Deadline,
) -> Result<RegenerationPlan> {
    let sources = &*options.sources(sources);
    let reconstruction = reconstruct(sources)?;
    let (components, mut checks) = choose(components, &reconstruction.config);
    reconstruction.require_complete(&components, &options.assume_defaults)?;
    if let Some(left_out) = reconstruction.left_out_by_dry_run() {
        return Err(Error::new(ErrorKind::Unsupported, left_out));
    }
    let program = Program::find(node, options, commands, deadline)?;
    let api_version = program.version.api_version()?;
    checks.push(check_skew(&program, &reconstruction.config)?);
    let mut told = reconstruction.clone();
    keep_variables(&mut told.config, |component| {
        let path = format!("{}.extraEnvs", section(component));
        components.contains(&component) && !options.assume_defaults.contains(&path)
    });
    let (config, _) = document(&told, &program, api_version)?;
    let rendered = render(node, &components, &program, &told, options, commands, deadline)?;

    let now = options.now.unwrap_or_else(|| SystemClock.unix());
    let mut files = Vec::new();
    let mut diffs = Vec::new();
    for (component, bytes) in rendered {
        let pod = StaticPod::parse(&bytes)?;
        checks.extend(checks::certificates(node, component, &pod, &reconstruction.config, now));
        checks.extend(checks::host_paths(node, component, &pod, &pki(&reconstruction.config)));
        if component == Component::Etcd {
            let data_dir = pod.etcd_data_dir().unwrap_or_else(|| node.etcd_data_dir.clone());
            // Looked at now, not when the sources were gathered.
            let data = EtcdDataState::look(node, &data_dir);
            checks.push(checks::etcd_data(&pod, &data, &members(sources), options.etcd_member_just_added));
        }
        diffs.push(diff(component, sources, &bytes)?);
        let live = node.manifests().join(component.manifest_file());
        let replaces = Observed::from_result(read_bounded(&live, MAX_DOCUMENT_BYTES).map(|b| Digest::of(&b)));
        files.push(StagedFile { component, digest: Digest::of(&bytes), bytes, replaces });
    }
    Ok(RegenerationPlan {
        kubeadm: program.path,
        kubeadm_version: program.version,
        api_version,
        config,
        reconstruction,
        files,
        diffs,
        checks,
    })
}

/// Each component once, in the order in which they come up; without etcd when it is external.
fn choose(components: &[Component], config: &Config) -> (Vec<Component>, Vec<Check>) {
    let chosen: BTreeSet<Component> = components.iter().copied().collect();
    let mut chosen: Vec<Component> = chosen.into_iter().collect();
    let mut checks = Vec::new();
    if config.external_etcd().is_some() && chosen.contains(&Component::Etcd) {
        chosen.retain(|component| *component != Component::Etcd);
        let message = "etcd is external; kubeadm makes no manifest for it, the phase is skipped";
        checks.push(Check::new("external-etcd", Component::Etcd, CheckOutcome::Warn, message));
    }
    (chosen, checks)
}

fn check_skew(program: &Program, config: &Config) -> Result<Check> {
    let Some(version) = &config.kubernetes_version else {
        let message = "the cluster's version is not needed for these components";
        return Ok(Check::new("version-skew", None, CheckOutcome::Pass, message));
    };
    let cluster: KubeadmVersion = version.parse()?;
    match program.version.skew(&cluster) {
        Some(problem) => Err(Error::new(ErrorKind::Unsupported, problem)),
        None => Ok(Check::new(
            "version-skew",
            None,
            CheckOutcome::Pass,
            format!("kubeadm {} renders for cluster {cluster}", program.version),
        )),
    }
}

/// Variables for kubeadm's process.
type Env = Vec<(String, String)>;

/// Leaves out the variables of other components: what is not rendered must not hinder what is, where the config
/// cannot say it.
pub(super) fn keep_variables(config: &mut Config, keep: impl Fn(Component) -> bool) {
    for component in Component::ALL.into_iter().filter(|component| !keep(*component)) {
        if let Some(settings) = known_settings(config, component) {
            settings.extra_envs.clear();
        }
    }
}

/// Returns the settings that the config has; to ask for those of etcd to change them makes it a local one.
fn known_settings(config: &mut Config, component: Component) -> Option<&mut ComponentSettings> {
    config.settings(component)?;
    config.settings_mut(component)
}

/// Writes the config; proxy variables that v1beta3 cannot say go into kubeadm's environment, from
/// where it copies them into every manifest (kubeadm `app/util/env.go`).
pub(super) fn document(
    reconstruction: &Reconstruction,
    program: &Program,
    api_version: ApiVersion,
) -> Result<(Vec<u8>, Env)> {
    let mut config = reconstruction.config.clone();
    // Only etcd's phase comes here without a version, and it uses none; but kubeadm would ask the
    // internet for one first.
    config.kubernetes_version.get_or_insert_with(|| program.version.to_string());
    let mut env: Env = Vec::new();
    if api_version == ApiVersion::V1Beta3 {
        for component in Component::ALL {
            let Some(settings) = known_settings(&mut config, component) else { continue };
            settings.extra_envs.retain(|variable| {
                let is_proxy =
                    variable.name.to_ascii_lowercase().ends_with("_proxy") && variable.other.is_empty();
                let pair = (variable.name.clone(), variable.value.clone());
                if is_proxy && !env.contains(&pair) {
                    env.push(pair);
                }
                !is_proxy
            });
        }
    }
    Ok((config.render(api_version)?, env))
}

fn render(
    node: &NodeOptions,
    components: &[Component],
    program: &Program,
    reconstruction: &Reconstruction,
    options: &Options,
    commands: &dyn Commands,
    deadline: &Deadline,
) -> Result<Vec<(Component, Vec<u8>)>> {
    let parent = options.staging_parent.clone().unwrap_or_else(|| node.store().join("staging"));
    let mut staging = Staging::new(&parent)?;
    let mut staged = reconstruction.clone();
    if let Some(patches) = &reconstruction.config.patches_dir {
        staged.config.patches_dir = Some(staging.take_patches(node, patches)?);
    }
    let (config, env) = document(&staged, program, program.version.api_version()?)?;
    staging.configure(&config, env)?;
    let live = LiveFolder::look(node)?;
    let mut rendered = Vec::new();
    for component in components {
        deadline.check("render manifests")?;
        let result = match staging.render(program, *component, commands, deadline) {
            Err(PhaseError::NoDryRun) if !options.no_mount_namespace => {
                super::namespace::render(node, &staging, program, *component, deadline)
            }
            Err(PhaseError::NoDryRun) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("kubeadm {} has no --dry-run for the phase of {component}", program.version),
            )),
            Err(PhaseError::Failed(error)) => Err(error),
            Ok(bytes) => Ok(bytes),
        };
        // Even a phase that failed may have written where it should not.
        live.check_untouched(node)?;
        rendered.push((*component, result?));
    }
    Ok(rendered)
}

/// Compares with the last known good manifest, or with the live one where there is no other.
fn diff(component: Component, sources: &Sources, bytes: &[u8]) -> Result<ComponentDiff> {
    let of = |origin| {
        sources.manifests.iter().find(move |manifest: &&ManifestSource| {
            manifest.component == component
                && manifest.origin == origin
                && StaticPod::parse_as_kubelet(&manifest.bytes).is_ok()
        })
    };
    let known = of(ManifestOrigin::LastKnownGood).or_else(|| of(ManifestOrigin::Live));
    let differences = match known {
        Some(manifest) => compare(component, &manifest.bytes, bytes)?,
        None => Vec::new(),
    };
    Ok(ComponentDiff { component, compared_with: known.map(|manifest| manifest.name.clone()), differences })
}

/// The members that `--initial-cluster` of any known etcd manifest or container names.
fn members(sources: &Sources) -> Vec<String> {
    let manifests = sources.manifests.iter().filter(|manifest| manifest.component == Component::Etcd);
    let in_manifests = manifests.filter_map(|manifest| {
        Some(StaticPod::parse_as_kubelet(&manifest.bytes).ok()?.flag("initial-cluster")?.to_owned())
    });
    let containers = sources.containers.iter().filter(|container| container.component == Component::Etcd);
    let in_containers = containers
        .flat_map(|container| container.argv.iter())
        .filter_map(|arg| Some(arg.strip_prefix("--initial-cluster=")?.to_owned()));
    let all: BTreeSet<String> = in_manifests
        .chain(in_containers)
        .flat_map(|list| list.split(',').map(ToOwned::to_owned).collect::<Vec<_>>())
        .filter_map(|member| Some(member.split_once('=')?.0.to_owned()))
        .collect();
    all.into_iter().collect()
}
