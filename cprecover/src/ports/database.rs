//! Whether the database that an etcd has open is the manifest's; pure.

use super::evidence::DataDirLock;
use crate::model::Observed;

/// Returns what to say of the database when it may be closed, `None` when there is none.
///
/// `wanted` is the file below the manifest's data directory, `None` where no manifest is known.
///
/// # Errors
/// Why it may not: the open file may be the only one with etcd's data, and it is gone with the process.
pub(super) fn compare(
    lock: &Observed<DataDirLock>,
    wanted: Option<&Observed<(u64, u64)>>,
) -> Result<Option<&'static str>, String> {
    let lock = match lock {
        Observed::Present(lock) => lock,
        Observed::Absent => return Ok(None),
        Observed::Unknown(why) => {
            return Err(format!("whether it has the database open is unreadable: {why}"));
        }
    };
    let db = lock.db.display();
    if let Some(last) = &lock.last_copy {
        let last = last.display();
        return Err(format!(
            "its database {db} was deleted, and {last} is the last copy of it: copy that first \
             (cp {last} DESTINATION), then end the process by hand"
        ));
    }
    match wanted {
        None => Ok(Some("no manifest says which database it should have")),
        Some(Observed::Present(file)) if *file == lock.file => {
            Ok(Some("its database is the one below the manifest's data directory"))
        }
        Some(Observed::Present(_)) => {
            Err(format!("its database {db} is not the one below the manifest's data directory"))
        }
        Some(Observed::Absent) => {
            Err(format!("below the manifest's data directory is no database, while it has {db} open"))
        }
        Some(Observed::Unknown(why)) => Err(format!(
            "whether its database {db} is the one below the manifest's data directory is unreadable: {why}"
        )),
    }
}
