//! Reads what `crictl … -o json` prints; bytes in, values out.
//!
//! crictl prints the CRI messages as protojson: 64-bit numbers are strings, enums are their names; in
//! `inspect`, times are RFC 3339 (kubernetes-sigs/cri-tools `cmd/crictl/util.go`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::model::{
    Container, ContainerDetail, ContainerState, Mount, RuntimeCondition, RuntimeInfo, Sandbox, SandboxState,
    Transport, UnixNanos,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ContainerId, Pid, PodUid, SandboxId};

/// More than crictl prints for the 16 MiB that a CRI answer may have.
const MAX_BYTES: usize = 64 << 20;

/// Reads `crictl pods -o json`.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) when it is not such a list, [`Limit`](crate::ErrorKind::Limit)
/// when it is larger than 64 MiB.
pub fn pods(bytes: &[u8]) -> Result<Vec<Sandbox>> {
    let list: PodList = read("crictl pods", bytes)?;
    Ok(list.items.into_iter().map(Sandbox::from).collect())
}

/// Reads `crictl ps -a -o json`.
///
/// # Errors
/// As [`pods`].
pub fn containers(bytes: &[u8]) -> Result<Vec<Container>> {
    let list: ContainerList = read("crictl ps", bytes)?;
    Ok(list.containers.into_iter().map(Container::from).collect())
}

/// Reads `crictl inspect -o json ID`.
///
/// # Errors
/// As [`pods`].
pub fn container_detail(bytes: &[u8]) -> Result<ContainerDetail> {
    let inspected: OneOrMany = read("crictl inspect", bytes)?;
    let Inspected { status, info } = match inspected {
        OneOrMany::One(one) => *one,
        OneOrMany::Many(many) => many.into_iter().next().ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "crictl inspect: the list of containers is empty")
        })?,
    };
    let state = container_state(&status.state);
    let verbose = info.is_object().then(|| info.to_string());
    let info = VerboseInfo::from_value(info);
    Ok(ContainerDetail {
        id: ContainerId::new(status.id),
        pid: info.pid(state),
        exit_code: (state == ContainerState::Exited).then_some(status.exit_code),
        started_at: status.started_at.known(),
        finished_at: status.finished_at.known(),
        reason: filled(status.reason),
        message: filled(status.message),
        cgroups_path: info.cgroups_path(),
        argv: info.argv(),
        log_path: filled(status.log_path).map(Into::into),
        mounts: status.mounts.into_iter().map(Mount::from).collect(),
        verbose,
        state,
    })
}

/// Reads `crictl version` (its text, the same in all releases) and `crictl info -o json`.
///
/// # Errors
/// As [`pods`].
pub fn info(version: &[u8], info: &[u8], endpoint: &str) -> Result<RuntimeInfo> {
    let text = std::str::from_utf8(version).map_err(|source| {
        Error::with_source(ErrorKind::Invalid, "crictl version: the output is not UTF-8", source)
    })?;
    let value = |key: &str| version_value(text, key);
    let name = runtime_name(text)
        .ok_or_else(|| Error::new(ErrorKind::Invalid, "crictl version: the output has no RuntimeName"))?;
    let status: InfoOutput = read("crictl info", info)?;
    Ok(RuntimeInfo {
        name,
        version: value("RuntimeVersion").unwrap_or_default(),
        api_version: value("RuntimeApiVersion").unwrap_or_default(),
        endpoint: endpoint.to_owned(),
        transport: Transport::Crictl,
        conditions: status.status.conditions,
    })
}

/// Returns the runtime's name out of `crictl version`.
pub(super) fn runtime_name(version: &str) -> Option<String> {
    version_value(version, "RuntimeName")
}

fn version_value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.trim().strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
}

/// What a runtime adds to a verbose `ContainerStatus`: containerd and CRI-O write the same two fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VerboseInfo {
    pid: i64,
    #[serde(rename = "runtimeSpec")]
    runtime_spec: RuntimeSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeSpec {
    linux: SpecLinux,
    process: SpecProcess,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SpecProcess {
    args: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SpecLinux {
    cgroups_path: String,
}

impl VerboseInfo {
    /// Reads `info["info"]`; a runtime that writes something else there tells nothing.
    #[cfg(feature = "cri")]
    pub(super) fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    fn from_value(value: serde_json::Value) -> Self {
        serde_json::from_value(value).unwrap_or_default()
    }

    /// Returns the pid of a running container; that of an ended one may be someone else's by now.
    pub(super) fn pid(&self, state: ContainerState) -> Option<Pid> {
        if state != ContainerState::Running {
            return None;
        }
        Pid::new(i32::try_from(self.pid).ok()?)
    }

    pub(super) fn cgroups_path(&self) -> Option<String> {
        filled(self.runtime_spec.linux.cgroups_path.clone())
    }

    pub(super) fn argv(&self) -> Option<Vec<String>> {
        let argv = &self.runtime_spec.process.args;
        (!argv.is_empty()).then(|| argv.clone())
    }
}

/// Returns the text unless it is empty: protobuf does not tell the two apart.
pub(super) fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::new(ErrorKind::Limit, format!("{what}: more than {MAX_BYTES} bytes")));
    }
    serde_json::from_slice(bytes).map_err(|source| {
        Error::with_source(
            ErrorKind::Invalid,
            format!("{what}: the output is not what was asked for"),
            source,
        )
    })
}

// The key itself is demanded: `{}` must not read as "no sandboxes".
#[derive(Deserialize)]
struct PodList {
    items: Vec<PodItem>,
}

#[derive(Deserialize)]
struct ContainerList {
    containers: Vec<ContainerItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodItem {
    id: String,
    metadata: PodMetadata,
    #[serde(default)]
    state: EnumValue,
    #[serde(default)]
    created_at: Time,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct PodMetadata {
    name: String,
    uid: String,
    namespace: String,
    #[serde(default)]
    attempt: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerItem {
    id: String,
    pod_sandbox_id: String,
    metadata: ContainerMetadata,
    #[serde(default)]
    image: ImageSpec,
    #[serde(default)]
    image_ref: String,
    #[serde(default)]
    state: EnumValue,
    #[serde(default)]
    created_at: Time,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ContainerMetadata {
    name: String,
    #[serde(default)]
    attempt: u32,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ImageSpec {
    image: String,
    user_specified_image: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Box<Inspected>),
    Many(Vec<Inspected>),
}

#[derive(Deserialize)]
struct Inspected {
    status: StatusItem,
    #[serde(default)]
    info: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusItem {
    id: String,
    #[serde(default)]
    state: EnumValue,
    #[serde(default)]
    started_at: Time,
    #[serde(default)]
    finished_at: Time,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    log_path: String,
    #[serde(default)]
    mounts: Vec<MountItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct MountItem {
    container_path: PathBuf,
    host_path: PathBuf,
    readonly: bool,
}

impl From<MountItem> for Mount {
    fn from(item: MountItem) -> Self {
        Self { host_path: item.host_path, container_path: item.container_path, read_only: item.readonly }
    }
}

#[derive(Deserialize)]
struct InfoOutput {
    status: InfoStatus,
}

#[derive(Deserialize)]
struct InfoStatus {
    #[serde(default)]
    conditions: Vec<RuntimeCondition>,
}

/// An enum in protojson: its name, or its number where the printer did not know the name.
#[derive(Deserialize)]
#[serde(untagged)]
enum EnumValue {
    Name(String),
    Number(i32),
}

impl Default for EnumValue {
    fn default() -> Self {
        // A printer that leaves out default values leaves out the first value of an enum.
        Self::Number(0)
    }
}

fn container_state(value: &EnumValue) -> ContainerState {
    match value {
        EnumValue::Number(number) => ContainerState::from_wire(*number),
        EnumValue::Name(name) => match name.as_str() {
            "CONTAINER_CREATED" => ContainerState::Created,
            "CONTAINER_RUNNING" => ContainerState::Running,
            "CONTAINER_EXITED" => ContainerState::Exited,
            _ => ContainerState::Unknown,
        },
    }
}

fn sandbox_state(value: &EnumValue) -> SandboxState {
    match value {
        EnumValue::Number(number) => SandboxState::from_wire(*number),
        EnumValue::Name(name) => match name.as_str() {
            "SANDBOX_READY" => SandboxState::Ready,
            "SANDBOX_NOTREADY" => SandboxState::NotReady,
            _ => SandboxState::Unknown,
        },
    }
}

/// Nanoseconds as a string or number, or RFC 3339 text.
#[derive(Default)]
struct Time(UnixNanos);

impl Time {
    /// 0 is CRI's "not yet"; crictl prints it as 1970 or as Go's year 1.
    fn known(self) -> Option<UnixNanos> {
        (self.0.0 > 0).then_some(self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => return Ok(Self(UnixNanos(number))),
            Written::Text(text) => text,
        };
        if let Ok(number) = text.parse() {
            return Ok(Self(UnixNanos(number)));
        }
        let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        // Go's year 1 does not fit 64 bits of nanoseconds; it means "never".
        Ok(Self(UnixNanos(i64::try_from(time.as_nanosecond()).unwrap_or(0))))
    }
}

impl From<PodItem> for Sandbox {
    fn from(item: PodItem) -> Self {
        Self {
            id: SandboxId::new(item.id),
            pod_name: item.metadata.name,
            namespace: item.metadata.namespace,
            uid: PodUid::new(item.metadata.uid),
            attempt: item.metadata.attempt,
            state: sandbox_state(&item.state),
            created_at: item.created_at.0,
            labels: item.labels,
            annotations: item.annotations,
        }
    }
}

impl From<ContainerItem> for Container {
    fn from(item: ContainerItem) -> Self {
        let named = [item.image.user_specified_image, item.image.image, item.image_ref];
        Self {
            id: ContainerId::new(item.id),
            sandbox: SandboxId::new(item.pod_sandbox_id),
            name: item.metadata.name,
            attempt: item.metadata.attempt,
            state: container_state(&item.state),
            created_at: item.created_at.0,
            image: named.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
            labels: item.labels,
            annotations: item.annotations,
        }
    }
}
