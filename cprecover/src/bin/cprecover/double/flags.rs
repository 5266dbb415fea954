//! The command line of a stand-in component, as the manifest's `command` gives it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cprecover::{Error, ErrorKind, Result};

/// The arguments after the double's own name, exactly as the real program would get them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ProgramArgs {
    /// Flags of the real program, `--name=value`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<String>,
}

/// Flags by name; the last one wins, as in Go's `flag` package.
#[derive(Debug, Clone)]
pub(crate) struct Flags(BTreeMap<String, String>);

impl ProgramArgs {
    /// Splits `--name=value`; a flag without a value is `true`.
    pub(crate) fn parse(&self) -> Flags {
        let pairs = self.flags.iter().filter_map(|arg| {
            let body = arg.strip_prefix("--")?;
            let (name, value) = body.split_once('=').unwrap_or((body, "true"));
            Some((name.to_owned(), value.to_owned()))
        });
        Flags(pairs.collect())
    }
}

impl Flags {
    /// Returns a flag's value.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a flag's value, or an error that names the flag.
    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.value(name).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("flag --{name} is missing")))
    }

    /// Returns the addresses in a comma-separated list of URLs, with whether each speaks TLS.
    pub(crate) fn urls(&self, name: &str) -> Result<Vec<(SocketAddr, bool)>> {
        self.value(name)
            .unwrap_or_default()
            .split(',')
            .filter(|url| !url.is_empty())
            .map(|url| {
                let (scheme, address) = url.split_once("://").unwrap_or(("http", url));
                let address = address.trim_end_matches('/').parse().map_err(|source| {
                    Error::with_source(ErrorKind::Invalid, format!("--{name}: {url} is no address"), source)
                })?;
                Ok((address, scheme == "https"))
            })
            .collect()
    }
}
