//! Saves a running member's database.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::bolt::{self, Depth};
use super::client::Client;
use super::gateway::SnapshotPart;
use super::http::Reply;
use super::unfinished;
use super::verdict::DataState;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Digest;
use crate::sys::Deadline;

/// The longest line of the stream; etcd sends 32 KiB of database in each (etcd
/// `server/etcdserver/api/v3rpc/maintenance.go`), 44 KiB as base64.
const MAX_LINE_BYTES: usize = 16 << 20;
/// Bytes of the SHA-256 that etcd sends behind the database.
const TRAILER_BYTES: usize = 32;
/// What is left free beside the snapshot: etcd's next WAL file, should it be on the same file system.
const SPARE_BYTES: u64 = 64_000_000;

/// What was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SnapshotReceipt {
    /// The file.
    pub path: PathBuf,
    /// Its size, the 32 bytes of the trailer included.
    pub size_bytes: u64,
    /// SHA-256 of the database in it, as etcd sent it and as it was computed here.
    pub sha256: Digest,
    /// The newest revision in it.
    pub revision: Option<u64>,
    /// Key revisions in it.
    pub key_revisions: u64,
}

/// Streams a snapshot of a running member into the new file `to`.
///
/// The bytes go to a temporary file beside `to`, the SHA-256 that etcd appends is compared, the database
/// is walked page by page, and only then the file takes its name, after `fsync` of file and folder. The
/// trailer stays in the file: `etcdctl snapshot restore` and `etcdutl snapshot restore` want it.
///
/// # Errors
/// [`crate::ErrorKind::AlreadyExists`] when `to` exists, [`crate::ErrorKind::Corrupt`] when digest or pages
/// are wrong, [`crate::ErrorKind::NoSpace`], and the kinds of [`Client::members`]. No file is left behind.
pub fn snapshot(client: &Client, to: &Path, deadline: &Deadline) -> Result<SnapshotReceipt> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if to.symlink_metadata().is_ok() {
        return Err(Error::new(ErrorKind::AlreadyExists, format!("{} exists", to.display())));
    }
    let size = client.status(deadline)?.db_size_bytes;
    check_room(folder, size)?;
    let mut file = tempfile::Builder::new()
        .prefix(unfinished::SNAPSHOT.0)
        .suffix(unfinished::SNAPSHOT.1)
        .tempfile_in(folder)
        .map_err(|source| Error::path("create a temporary file in", folder, source))?;
    unfinished::keep(file.as_file(), file.path())?;
    let reply = client.start_snapshot(deadline)?;
    let (size_bytes, sha256) = receive(reply, &mut file, to, deadline)?;
    let scan = bolt::scan(file.path(), Depth::Everything, u64::MAX, deadline)?;
    if let Some(finding) = scan.findings.iter().find(|finding| finding.state == DataState::DbBroken) {
        let message = format!("snapshot of {}: {}", client.address(), finding.message);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    deadline.check("check of the snapshot")?;
    file.as_file().sync_all().map_err(|source| Error::path("sync", file.path(), source))?;
    file.persist_noclobber(to).map_err(|failed| Error::path("name", to, failed.error))?;
    sync_folder(folder)?;
    let (revision, key_revisions) = (scan.report.revision, scan.report.key_revisions);
    tracing::info!(path = %to.display(), size_bytes, %sha256, "etcd snapshot saved");
    Ok(SnapshotReceipt { path: to.to_owned(), size_bytes, sha256, revision, key_revisions })
}

fn check_room(folder: &Path, size: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(folder).map_err(|source| Error::path("statvfs", folder, source))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = size.saturating_add(SPARE_BYTES);
    if free < needed {
        let message =
            format!("{} has {free} bytes free, a snapshot needs {needed} with reserve", folder.display());
        return Err(Error::new(ErrorKind::NoSpace, message));
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<()> {
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| Error::path("sync", folder, source))
}

/// Writes the stream's content and compares the digest at its end.
fn receive(
    mut reply: Reply,
    file: &mut tempfile::NamedTempFile,
    to: &Path,
    deadline: &Deadline,
) -> Result<(u64, Digest)> {
    let mut intake = Intake { file, to, hash: sha2::Sha256::new(), held: Vec::new(), written: 0, left: None };
    let mut pending = Vec::new();
    loop {
        let more = reply.read(&mut pending, deadline)?;
        let whole = memchr::memrchr(b'\n', &pending).map_or(0, |end| end + 1);
        let lines: Vec<u8> = pending.drain(..whole).collect();
        for line in lines.split(|byte| *byte == b'\n') {
            intake.line(line)?;
        }
        if pending.len() > MAX_LINE_BYTES {
            return Err(Error::new(ErrorKind::Peer, "snapshot stream has a line without end"));
        }
        if !more {
            intake.line(&pending)?;
            return intake.finish();
        }
    }
}

struct Intake<'a> {
    file: &'a mut tempfile::NamedTempFile,
    to: &'a Path,
    hash: sha2::Sha256,
    /// The last bytes so far, which may be the trailer.
    held: Vec<u8>,
    written: u64,
    /// How many bytes the last message announced.
    left: Option<u64>,
}

impl Intake<'_> {
    fn line(&mut self, line: &[u8]) -> Result<()> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let part = SnapshotPart::parse(line)?;
        let blob = BASE64
            .decode(part.blob.as_bytes())
            .map_err(|source| Error::with_source(ErrorKind::Peer, "snapshot stream is not base64", source))?;
        self.left = Some(part.remaining_bytes);
        self.held.extend_from_slice(&blob);
        let ready = self.held.len().saturating_sub(TRAILER_BYTES);
        let ready: Vec<u8> = self.held.drain(..ready).collect();
        self.hash.update(&ready);
        self.write(&ready)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.file.write_all(bytes).map_err(|source| Error::path("write snapshot", self.to, source))
    }

    fn finish(mut self) -> Result<(u64, Digest)> {
        let computed: [u8; 32] = std::mem::take(&mut self.hash).finalize().into();
        let complete = self.left == Some(0) && self.written > 0 && self.written.is_multiple_of(512);
        if !complete || self.held != computed {
            let message = format!(
                "snapshot from etcd is cut off or changed: {} bytes, {} announced and missing, SHA-256 {}",
                self.written,
                self.left.unwrap_or(0),
                Digest::from_bytes(computed)
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let trailer = std::mem::take(&mut self.held);
        self.write(&trailer)?;
        self.file.flush().map_err(|source| Error::path("write snapshot", self.to, source))?;
        Ok((self.written, Digest::from_bytes(computed)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::super::ClientOptions;
    use super::*;
    use crate::etcd::bolt::build;

    /// A stand-in that answers a status and then the stream `lines`.
    fn save(lines: Vec<String>, to: &Path) -> Result<SnapshotReceipt> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let server = std::thread::spawn(move || {
            let status = r#"{"header":{"member_id":"1"},"version":"3.4.0","dbSize":"4096"}"#.to_owned();
            for body in [status, lines.join("\n")] {
                let (mut socket, _) = listener.accept().expect("accept");
                let mut request = [0_u8; 2048];
                let _ = socket.read(&mut request);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body.as_bytes()));
            }
        });
        let client = Client::new(ClientOptions::new(address, None)).expect("client");
        let result = snapshot(&client, to, &Deadline::after(Duration::from_secs(10)));
        server.join().expect("server ends");
        result
    }

    fn line(left: usize, blob: &[u8]) -> String {
        format!("{{\"result\":{{\"remaining_bytes\":\"{left}\",\"blob\":\"{}\"}}}}", BASE64.encode(blob))
    }

    /// The stream of a database in blobs of `size`, with its digest behind it.
    fn stream(db: &[u8], size: usize) -> Vec<String> {
        let mut left = db.len();
        let mut lines: Vec<String> = db
            .chunks(size)
            .map(|blob| {
                left -= blob.len();
                line(left, blob)
            })
            .collect();
        let digest: [u8; 32] = sha2::Sha256::digest(db).into();
        lines.push(line(0, &digest));
        lines
    }

    #[test]
    fn a_whole_stream_is_saved_whatever_its_blobs() {
        let db = build::etcd_36(42, "a1").concat();
        for size in [7000, 32 << 10, 19] {
            let dir = tempfile::tempdir().expect("temp dir");
            let to = dir.path().join("snapshot.db");
            let receipt = save(stream(&db, size), &to).expect("saved");
            assert_eq!((receipt.revision, receipt.key_revisions), (Some(9), 3));
            let bytes = std::fs::read(&to).expect("read");
            assert!(bytes.starts_with(&db) && bytes.ends_with(receipt.sha256.as_bytes()));
        }
    }

    #[test]
    fn a_cut_or_changed_stream_leaves_no_file() {
        let db = build::etcd_36(42, "a1").concat();
        let whole = stream(&db, 8000);
        let mut cut = whole.clone();
        cut.pop();
        let mut hole = whole.clone();
        hole.remove(1);
        let mut changed = whole.clone();
        changed.swap(0, 1);
        let mut broken = build::etcd_36(42, "a1");
        if let Some(page) = broken.get_mut(5) {
            page.fill(0);
        }
        // Its digest is right, but etcd has read a broken database.
        let broken = stream(&broken.concat(), 8000);
        for (what, lines) in
            [("cut", cut), ("hole", hole), ("changed", changed), ("pages", broken), ("none", vec![])]
        {
            let dir = tempfile::tempdir().expect("temp dir");
            let error = save(lines, &dir.path().join("snapshot.db")).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
            assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0, "{what}");
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let refused = vec![r#"{"error":{"message":"boom"}}"#.to_owned()];
        let error = save(refused, &dir.path().join("snapshot.db")).expect_err("refused");
        assert!(error.to_string().contains("boom"), "{error}");
    }
}
