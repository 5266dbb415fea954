//! `cprecover hold` and `cprecover release`: the safe form of `mv … /tmp`.

use cprecover::backup::{Held, HeldState, UnreadableHold};
use cprecover::model::Component;
use cprecover::{Error, ErrorKind, Result};
use serde::Serialize;

use super::backup::{StoreArgs, deadline};
use crate::console::say;
use crate::{Context, Exit};

/// Arguments of `cprecover hold`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The component, or the manifest's file name; without it, what is held is listed.
    component: Option<String>,
    /// Why; is shown by the list.
    #[arg(long, default_value = "held by hand")]
    reason: String,
}

/// Arguments of `cprecover release`.
#[derive(clap::Args)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The component, or the manifest's file name.
    #[arg(required_unless_present = "all")]
    component: Option<String>,
    /// Release everything that is held.
    #[arg(long, conflicts_with = "component")]
    all: bool,
}

#[derive(Serialize)]
struct Holds {
    held: Vec<Held>,
}

#[allow(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments")]
/// Runs `cprecover hold`.
pub(crate) fn run(ctx: &Context, args: Args) -> Result<Exit> {
    let Some(component) = &args.component else {
        let store = args.store.open_read_only(ctx)?;
        return print(ctx, store.held()?, &store.unreadable_holds()?, "nothing is held");
    };
    let held = args.store.open(ctx)?.hold(&file_name(component), &args.reason, &deadline(ctx))?;
    print(ctx, vec![held], &[], "nothing is held")
}

#[allow(clippy::needless_pass_by_value, reason = "every subcommand takes its arguments")]
/// Runs `cprecover release`.
pub(crate) fn run_release(ctx: &Context, args: ReleaseArgs) -> Result<Exit> {
    let store = args.store.open(ctx)?;
    let files: Vec<String> = if let Some(component) = &args.component {
        vec![file_name(component)]
    } else {
        let known = store.held()?.into_iter().map(|held| held.file);
        known.chain(store.unreadable_holds()?.into_iter().map(|hold| hold.file)).collect()
    };
    let none = if files.is_empty() { "nothing is held" } else { "nothing was released" };
    let mut released = Vec::new();
    let mut failed: Option<Error> = None;
    for file in files {
        // One that cannot be released must not keep the others back.
        match store.release(&file, &deadline(ctx)) {
            Ok(held) => released.push(held),
            Err(error) if args.all => {
                say(format_args!("cprecover: {error}"));
                failed = failed.or(Some(Error::new(ErrorKind::Invalid, "not everything was released")));
            }
            Err(error) => return Err(error),
        }
    }
    let exit = print(ctx, released, &[], none)?;
    failed.map_or(Ok(exit), Err)
}

/// Turns a component into its manifest's name; any other text is a file name.
fn file_name(component: &str) -> String {
    component.parse::<Component>().map_or_else(|_| component.to_owned(), |c| c.manifest_file().to_owned())
}

/// Prints what is held, or `none`; of what is held by a record that cannot be read no more than that is known.
fn print(ctx: &Context, held: Vec<Held>, unreadable: &[UnreadableHold], none: &str) -> Result<Exit> {
    let holds = Holds { held };
    ctx.emit("cprecover.dev/held/v1", &holds, || {
        if holds.held.is_empty() && unreadable.is_empty() {
            return none.into();
        }
        let line = |held: &Held| {
            let state = match held.state {
                HeldState::Held => "held",
                HeldState::OnlyInSnapshot => "held, only in its snapshot",
                HeldState::InPlaceToo => "held, and another stands in place",
                HeldState::Released => "in place",
                _ => "unknown",
            };
            format!("{}  {state}  (snapshot {}, {})\n", held.file, held.snapshot, held.reason)
        };
        let unknown = |hold: &UnreadableHold| format!("{}  held, its record cannot be read\n", hold.file);
        holds.held.iter().map(line).chain(unreadable.iter().map(unknown)).collect()
    })?;
    for hold in unreadable {
        say(format_args!("cprecover: {}", hold.message));
    }
    Ok(if unreadable.is_empty() { Exit::Done } else { Exit::Unhealthy })
}
