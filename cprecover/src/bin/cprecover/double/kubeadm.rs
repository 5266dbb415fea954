//! A double of kubeadm 1.36.2's `init phase control-plane …`, `init phase etcd local` and `version`.
//!
//! It does what the recorded program did (testdata/kubeadm-1.36, testdata/incident-lost): same lines,
//! same manifests byte for byte, and the same willingness to succeed without a config. It also renews
//! certificates (`certs renew NAME`, `init phase kubeconfig NAME`). What it does not do: ask the network and
//! detect a container runtime; of patches it applies those that touch no lists.

mod certs;
mod command_line;
mod patches;
mod pod;
mod settings;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cprecover::kubeadm::KubeadmVersion;
use cprecover::model::Component;
use cprecover::{Error, ErrorKind, Result};

use crate::Exit;
use crate::console::{print_line, say};

use command_line::Phase;
use settings::Settings;

/// At which call a failure mode shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum At {
    /// At `kubeadm version`.
    Version,
    /// At `kubeadm init phase …`.
    Phase,
}

/// Flags of the double itself, before the `--`; everything behind it is kubeadm's.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each failure mode is a flag of its own")]
pub(crate) struct Args {
    /// Do nothing for ten minutes.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "phase")]
    hang: Option<At>,
    /// Print and write bytes that mean nothing.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "phase")]
    garbage: Option<At>,
    /// Write half a manifest, then fail.
    #[arg(long)]
    fail_half_way: bool,
    /// Write into the live folder although told to dry-run.
    #[arg(long)]
    ignore_dry_run: bool,
    /// Render another component than the one asked for.
    #[arg(long)]
    wrong_component: bool,
    /// Know no `--dry-run` for phases, as the oldest kubeadm that reads v1beta3.
    #[arg(long)]
    no_dry_run_flag: bool,
    /// Make a folder of its own in `KUBEADM_INIT_DRYRUN_DIR`, as older versions do.
    #[arg(long)]
    dry_run_subfolder: bool,
    /// Be this version of kubeadm.
    #[arg(long, value_name = "VERSION", default_value = "v1.36.2")]
    report_version: String,
    /// Accept a loopback advertise address, for a cluster that lives on loopback.
    #[arg(long)]
    allow_loopback: bool,
    /// Where the optional host folders and the live manifests are looked for.
    #[arg(long, value_name = "DIR", default_value = "/", overrides_with = "host_root")]
    host_root: PathBuf,
    /// kubeadm's own arguments.
    #[arg(last = true, allow_hyphen_values = true)]
    argv: Vec<String>,
}

/// Runs the double; its errors are printed as kubeadm prints them.
pub(crate) fn run(args: &Args) -> Exit {
    match dispatch(args) {
        Ok(()) => Exit::Done,
        Err(error) => {
            say(format_args!(
                "error: {error}\nTo see the stack trace of this error execute with --v=5 or higher"
            ));
            Exit::Error
        }
    }
}

fn dispatch(args: &Args) -> Result<()> {
    let words: Vec<&str> = args.argv.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["version", rest @ ..] => version(args, rest),
        ["certs", "renew", name, rest @ ..] => {
            misbehave(args, At::Phase);
            certs::renew(args, name, rest)
        }
        ["init", "phase", "kubeconfig", name, rest @ ..] => {
            misbehave(args, At::Phase);
            certs::kubeconfig(args, name, rest)
        }
        ["init", "phase", rest @ ..] => phase(args, rest),
        [] => Err(wrong("the double runs `version` and `init phase` only")),
        [other, ..] => Err(wrong(&format!("unknown command \"{other}\" for \"kubeadm\""))),
    }
}

fn version(args: &Args, rest: &[&str]) -> Result<()> {
    misbehave(args, At::Version);
    let version = &args.report_version;
    match rest {
        ["-o" | "--output", "short"] | ["-o=short" | "-oshort" | "--output=short"] => {
            print_line(format_args!("{version}"));
        }
        ["-o" | "--output", "json"] | ["-o=json" | "-ojson" | "--output=json"] => {
            let value =
                serde_json::json!({"clientVersion": {"gitVersion": version, "platform": "linux/amd64"}});
            print_line(format_args!("{value:#}"));
        }
        [] => {
            print_line(format_args!(
                "kubeadm version: &version.Info{{GitVersion:\"{version}\", Platform:\"linux/amd64\"}}"
            ));
        }
        _ => return Err(wrong("invalid output format")),
    }
    Ok(())
}

fn misbehave(args: &Args, at: At) {
    if args.hang == Some(at) {
        // Bounded, should nobody end it.
        std::thread::sleep(Duration::from_mins(10));
    }
    if args.garbage == Some(at) {
        print_line(format_args!("\u{1}\u{fffd}not a version {}", "x".repeat(3 << 20)));
    }
}

fn phase(args: &Args, words: &[&str]) -> Result<()> {
    let (phase, flags) = command_line::parse(words, args.no_dry_run_flag)?;
    misbehave(args, At::Phase);
    let dry_run = flags.contains_key("dry-run") && !args.ignore_dry_run;
    let kubeadm: KubeadmVersion = args.report_version.parse()?;
    let settings = Settings::load(&flags, &kubeadm, args.allow_loopback, &args.host_root)?;
    let folder = manifest_folder(args, dry_run)?;
    let shown = if dry_run { folder.clone() } else { PathBuf::from(LIVE) };
    match phase {
        Phase::EtcdLocal => etcd(args, &settings, &folder, &shown, dry_run),
        Phase::ControlPlane(components) => {
            if components.len() > 1 {
                print_line(format_args!("[control-plane] Using manifest folder \"{}\"", shown.display()));
            }
            for component in components {
                print_line(format_args!("[control-plane] Creating static Pod manifest for \"{component}\""));
                write(args, &settings, *component, &folder)?;
            }
            Ok(())
        }
    }
}

/// kubeadm's live folder (kubernetes `cmd/kubeadm/app/constants/constants.go`).
const LIVE: &str = "/etc/kubernetes/manifests";

fn etcd(args: &Args, settings: &Settings, folder: &Path, shown: &Path, dry_run: bool) -> Result<()> {
    if settings.config.external_etcd().is_some() {
        return Ok(());
    }
    let data_dir = settings.data_dir();
    if dry_run {
        print_line(format_args!("[etcd] Would ensure that \"{}\" directory is present", data_dir.display()));
    } else {
        let data_dir = below(&args.host_root, data_dir);
        std::fs::create_dir_all(&data_dir).map_err(|source| Error::path("mkdir", &data_dir, source))?;
    }
    print_line(format_args!("[etcd] Creating static Pod manifest for local etcd in \"{}\"", shown.display()));
    let text = write(args, settings, Component::Etcd, folder)?;
    if dry_run {
        print_line(format_args!(
            "[dryrun] Would write file \"{LIVE}/etcd.yaml\" with content:\n{}",
            text.trim_end_matches('\n')
        ));
    }
    Ok(())
}

fn manifest_folder(args: &Args, dry_run: bool) -> Result<PathBuf> {
    let folder = if !dry_run {
        below(&args.host_root, Path::new(LIVE))
    } else if let Some(dir) = std::env::var_os("KUBEADM_INIT_DRYRUN_DIR") {
        let dir = PathBuf::from(dir);
        if args.dry_run_subfolder { dir.join("kubeadm-init-dryrun1234567") } else { dir }
    } else {
        below(&args.host_root, Path::new("/etc/kubernetes/tmp/kubeadm-init-dryrun1234567"))
    };
    std::fs::create_dir_all(&folder).map_err(|source| Error::path("mkdir", &folder, source))?;
    Ok(folder)
}

fn write(args: &Args, settings: &Settings, component: Component, folder: &Path) -> Result<String> {
    let rendered = if args.wrong_component { Component::KubeScheduler } else { component };
    let mut text = pod::manifest(settings, rendered);
    if let Some(folder) = &settings.config.patches_dir {
        text = patches::apply(folder, rendered, text)?;
    }
    if args.garbage.is_some() {
        text = "\u{1}garbage: [".repeat(100);
    }
    if args.fail_half_way {
        text.truncate(text.len() / 2);
    }
    let path = folder.join(component.manifest_file());
    std::fs::write(&path, &text).map_err(|source| Error::path("write", &path, source))?;
    if args.fail_half_way {
        return Err(wrong(&format!(
            "failed to write static pod manifest file for \"{component}\": no space left"
        )));
    }
    Ok(text)
}

/// Puts `root` in front of an absolute path.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn wrong(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
