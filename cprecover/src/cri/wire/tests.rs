#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Debug;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::*;

const PROTO: &str = include_str!("runtime_v1.proto");
const ENUMS: [&str; 3] = ["PodSandboxState", "ContainerState", "MountPropagation"];

struct Field {
    name: String,
    r#type: String,
    repeated: bool,
    tag: u32,
}

/// Reads `message Name { [repeated] type name = tag; }`, which is all that the file has.
fn messages() -> BTreeMap<String, Vec<Field>> {
    let mut found = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in PROTO.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("message ") {
            let name = rest.trim_end_matches(['{', '}', ' ']).to_owned();
            found.insert(name.clone(), Vec::new());
            current = (!rest.ends_with('}')).then_some(name);
        } else if line == "}" {
            current = None;
        } else if let Some(message) = &current {
            let (left, tag) = line.trim_end_matches(';').split_once(" = ").expect("a field");
            let (r#type, name) = left.rsplit_once(' ').expect("type and name");
            found.get_mut(message).expect("just put in").push(Field {
                name: name.to_owned(),
                r#type: r#type.trim_start_matches("repeated ").to_owned(),
                repeated: r#type.starts_with("repeated "),
                tag: tag.parse().expect("a number"),
            });
        }
    }
    found
}

/// Writes one field by hand: every text is the field's name, every number its tag.
fn put(field: &Field, buffer: &mut Vec<u8>) -> String {
    let text = |buffer: &mut Vec<u8>, bytes: &[u8]| {
        encode_key(field.tag, WireType::LengthDelimited, buffer);
        encode_varint(bytes.len() as u64, buffer);
        buffer.extend_from_slice(bytes);
    };
    let name = &field.name;
    match field.r#type.as_str() {
        "string" => {
            text(buffer, name.as_bytes());
            if field.repeated { format!("{name}: [\"{name}\"]") } else { format!("{name}: \"{name}\"") }
        }
        "bool" => {
            encode_key(field.tag, WireType::Varint, buffer);
            encode_varint(1, buffer);
            format!("{name}: true")
        }
        "map<string, string>" => {
            let mut entry = Vec::new();
            for tag in [1, 2] {
                encode_key(tag, WireType::LengthDelimited, &mut entry);
                encode_varint(name.len() as u64, &mut entry);
                entry.extend_from_slice(name.as_bytes());
            }
            text(buffer, &entry);
            format!("{name}: {{\"{name}\": \"{name}\"}}")
        }
        scalar if matches!(scalar, "int32" | "int64" | "uint32") || ENUMS.contains(&scalar) => {
            encode_key(field.tag, WireType::Varint, buffer);
            encode_varint(u64::from(field.tag), buffer);
            format!("{name}: {}", field.tag)
        }
        message => {
            text(buffer, &[]);
            if field.repeated {
                format!("{name}: [{message} {{")
            } else {
                format!("{name}: Some({message} {{")
            }
        }
    }
}

fn holds_together<M: Message + Default + Debug>(name: &str, fields: &[Field]) {
    let mut bytes = Vec::new();
    let expected: Vec<String> = fields.iter().map(|field| put(field, &mut bytes)).collect();
    let message = M::decode(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let shown = format!("{message:?}").replace("r#", "");
    for (field, text) in fields.iter().zip(expected) {
        let text = text.trim_end_matches(" {");
        assert!(shown.contains(text), "{name}.{}: {text} is not in {shown}", field.name);
    }
    let pretty = format!("{message:#?}");
    let own = pretty
        .lines()
        .filter(|line| line.starts_with("    ") && !line.starts_with("     ") && line.contains(": "))
        .count();
    assert_eq!(own, fields.len(), "{name} has fields that the .proto does not have: {pretty}");
}

macro_rules! all_messages {
    ($($message:ident),* $(,)?) => {
        [$((stringify!($message), holds_together::<$message> as fn(&str, &[Field]))),*]
    };
}

#[test]
fn every_field_number_name_and_type_is_that_of_the_proto() {
    let written = messages();
    let table = all_messages![
        VersionRequest,
        VersionResponse,
        StatusRequest,
        StatusResponse,
        RuntimeStatus,
        RuntimeCondition,
        PodSandboxMetadata,
        LinuxPodSandboxConfig,
        PodSandboxConfig,
        RunPodSandboxRequest,
        RunPodSandboxResponse,
        StopPodSandboxRequest,
        StopPodSandboxResponse,
        RemovePodSandboxRequest,
        RemovePodSandboxResponse,
        PodSandboxStatusRequest,
        PodSandboxStatus,
        PodSandboxStatusResponse,
        PodSandboxStateValue,
        PodSandboxFilter,
        ListPodSandboxRequest,
        PodSandbox,
        ListPodSandboxResponse,
        ImageSpec,
        KeyValue,
        Mount,
        ContainerMetadata,
        ContainerConfig,
        CreateContainerRequest,
        CreateContainerResponse,
        StartContainerRequest,
        StartContainerResponse,
        StopContainerRequest,
        StopContainerResponse,
        RemoveContainerRequest,
        RemoveContainerResponse,
        ContainerStateValue,
        ContainerFilter,
        ListContainersRequest,
        Container,
        ListContainersResponse,
        ContainerStatusRequest,
        ContainerStatus,
        ContainerStatusResponse,
    ];
    assert_eq!(table.len(), written.len(), "the .proto and this table list the same messages");
    for (name, check) in table {
        check(name, &written[name]);
    }
}
