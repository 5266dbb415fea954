//! Keys that are written before the fault and read back after the recovery.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cprecover::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::site::Site;

/// How many keys a drill writes.
pub(super) const COUNT: usize = 20;
const TIMEOUT: Duration = Duration::from_secs(5);

fn pair(index: usize) -> (String, String) {
    (
        STANDARD.encode(format!("/drill/key-{index}")),
        STANDARD.encode(format!("value {index} from before the fault")),
    )
}

/// Writes the keys through etcd's HTTP gateway.
pub(super) fn write(site: &Site) -> Result<()> {
    let etcd = site.etcd_client()?;
    for index in 0..COUNT {
        let (key, value) = pair(index);
        let body = json!({ "key": key, "value": value }).to_string();
        let (status, answer) = etcd.send_blocking("/v3/kv/put", Some(body), TIMEOUT)?;
        if status != 200 {
            let answer = String::from_utf8_lossy(&answer).into_owned();
            return Err(Error::new(
                ErrorKind::Peer,
                format!("etcd does not take key {index}: {status} {answer}"),
            ));
        }
    }
    Ok(())
}

/// Reads the keys back and returns how many have their value.
pub(super) fn count_intact(site: &Site) -> Result<usize> {
    let etcd = site.etcd_client()?;
    let mut intact = 0;
    for index in 0..COUNT {
        let (key, value) = pair(index);
        let (_, answer) =
            etcd.send_blocking("/v3/kv/range", Some(json!({ "key": key }).to_string()), TIMEOUT)?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|source| Error::with_source(ErrorKind::Peer, "etcd's answer is no JSON", source))?;
        intact += usize::from(answer.pointer("/kvs/0/value").and_then(Value::as_str) == Some(&value));
    }
    Ok(intact)
}
