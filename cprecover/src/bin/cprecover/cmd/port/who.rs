//! `cprecover port who`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use cprecover::Result;
use cprecover::model::{Component, Port};
use cprecover::ports::{Lookup, Unowned};
use serde::Serialize;

use super::{Place, court};
use crate::{Context, Exit};

/// Arguments of `cprecover port who`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: Place,
    /// The component that should hold it; another program's holder is foreign then.
    #[arg(long, value_name = "COMPONENT")]
    expect: Option<Component>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    port: Port,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    holders: Vec<court::Printed>,
    unowned: Vec<Unowned>,
}

pub(super) fn run(ctx: &Context, args: &Args) -> Result<Exit> {
    let query = args.place.query(ctx);
    let deadline = super::deadline(ctx, Duration::ZERO);
    let court::Hearing { lookup, judged, .. } = court::hear(&ctx.node, &query, args.expect, &deadline)?;
    let (state, unowned) = match lookup {
        Lookup::Found { .. } => ("found", Vec::new()),
        Lookup::OwnerUnknown { unowned, .. } => ("owner-unknown", unowned),
        Lookup::AddressNotOnHost { .. } => ("address-not-on-host", Vec::new()),
        _ => ("free", Vec::new()),
    };
    let holders = judged.iter().map(court::Judged::printed).collect();
    let answer = Answer { port: query.port, state, address: query.address, holders, unowned };
    ctx.emit("cprecover.dev/port-holders/v1", &answer, || table(&answer))?;
    // Somebody listens whom we cannot name: not an answer that a script may take for one.
    Ok(if state == "owner-unknown" { Exit::Error } else { Exit::Done })
}

fn table(answer: &Answer) -> String {
    let port = answer.port;
    let mut text = match (answer.state, answer.address) {
        ("free", _) => format!("nothing listens on port {port}\n"),
        ("address-not-on-host", Some(address)) => format!(
            "address {address} is on no interface of this host: bind fails whoever holds port {port}\n"
        ),
        _ => String::new(),
    };
    for holder in &answer.holders {
        text.push_str(&holder.lines());
    }
    for unowned in &answer.unowned {
        let _ =
            writeln!(text, "{} is listened on, owner unknown: {}", unowned.listener.address, unowned.reason);
    }
    text
}
