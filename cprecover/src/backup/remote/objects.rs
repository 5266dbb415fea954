//! A remote on the `object_store` crate.

use std::fmt;
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path as FilePath;
use std::str::FromStr;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutMode, PutPayload, RetryConfig};
use tokio::runtime::{Builder, Handle, Runtime};
use url::Url;

use super::connect::Connector;
use super::{PutOutcome, RemoteObjects};
use crate::error::{Error, ErrorKind, Result};
use crate::sys::Deadline;

/// How soon a cancel is seen.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// How long one request is repeated; the caller's deadline bounds the whole.
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);
const MAX_RETRIES: usize = 4;
/// Memory that is set aside before the bytes are there.
const MAX_ROOM_BYTES: usize = 1 << 20;

/// How a remote is reached.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct RemoteOptions {
    /// Settings as the `object_store` crate names them: `aws_access_key_id`, `aws_region`,
    /// `aws_endpoint`, `google_service_account`, `azure_storage_account_key`, …. An unknown one is an error.
    pub settings: Vec<(String, String)>,
    /// The same out of a program's environment; unknown ones are passed over.
    pub environment: Vec<(String, String)>,
    /// Certificates that are trusted beside the machine's own, PEM: of an S3 store in the same house.
    pub roots_pem: Vec<u8>,
    /// Makes a local folder that is missing, mode 0700, but not the one that it is in: where a disk is not
    /// mounted, copies would land on another.
    pub make_folder: bool,
}

impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        // The values are credentials.
        f.debug_struct("RemoteOptions")
            .field("settings", &names(&self.settings))
            .field("environment", &names(&self.environment))
            .finish_non_exhaustive()
    }
}

/// Objects in a local folder, an S3 bucket or the like, a Google or an Azure container.
///
/// Calls block. They work on an executor of this value's own, on the caller's thread; look-ups of host
/// names and local files are done by helper threads of that executor, which end with this value.
pub struct ObjectStoreRemote {
    store: Box<dyn ObjectStore>,
    /// The URL's path, in front of every name.
    prefix: Path,
    /// The URL without user and query, for messages.
    shown: String,
    executor: Option<Runtime>,
}

impl fmt::Debug for ObjectStoreRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectStoreRemote").field(&self.shown).finish()
    }
}

impl Drop for ObjectStoreRemote {
    fn drop(&mut self) {
        let Some(executor) = self.executor.take() else { return };
        if Handle::try_current().is_ok() {
            // Waiting inside another executor is not allowed (tokio `Runtime::drop`).
            executor.shutdown_background();
        }
    }
}

impl ObjectStoreRemote {
    /// Opens `url`: `file:///folder`, `s3://bucket/path`, `gs://bucket/path`, `az://container/path` or
    /// another form that the `object_store` crate knows. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a URL or setting that is not understood, [`ErrorKind::Refused`] for a
    /// local folder that others can read, [`ErrorKind::NotFound`] for one that is not there and not to be made.
    pub fn open(url: &str, options: &RemoteOptions) -> Result<Self> {
        let parsed = Url::parse(url)
            .map_err(|source| Error::with_source(ErrorKind::Invalid, "remote is not a URL", source))?;
        let mut bare = parsed.clone();
        let _ = (bare.set_username(""), bare.set_password(None));
        bare.set_query(None);
        let shown = bare.to_string();
        let wrong = |text: String| Error::new(ErrorKind::Invalid, format!("remote {shown}: {text}"));
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&parsed).map_err(|source| wrong(one_line(&source)))?;
        let built: Box<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => {
                let path = parsed.to_file_path().map_err(|()| wrong("is not a local path".into()))?;
                return Self::of(Box::new(local(&path, options.make_folder)?), Path::default(), shown);
            }
            ObjectStoreScheme::AmazonS3 => Box::new(
                configured(AmazonS3Builder::new().with_url(url), options, AmazonS3Builder::with_config)?
                    .with_http_connector(Connector::new(&options.roots_pem)?)
                    .with_retry(retry())
                    .build()
                    .map_err(|source| wrong(one_line(&source)))?,
            ),
            ObjectStoreScheme::GoogleCloudStorage => Box::new(
                configured(
                    GoogleCloudStorageBuilder::new().with_url(url),
                    options,
                    GoogleCloudStorageBuilder::with_config,
                )?
                .with_http_connector(Connector::new(&options.roots_pem)?)
                .with_retry(retry())
                .build()
                .map_err(|source| wrong(one_line(&source)))?,
            ),
            ObjectStoreScheme::MicrosoftAzure => Box::new(
                configured(
                    MicrosoftAzureBuilder::new().with_url(url),
                    options,
                    MicrosoftAzureBuilder::with_config,
                )?
                .with_http_connector(Connector::new(&options.roots_pem)?)
                .with_retry(retry())
                .build()
                .map_err(|source| wrong(one_line(&source)))?,
            ),
            other => return Err(wrong(format!("{other:?} keeps no copies"))),
        };
        Self::of(built, prefix, shown)
    }

    fn of(store: Box<dyn ObjectStore>, prefix: Path, shown: String) -> Result<Self> {
        let executor = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::io("start an executor", source))?;
        Ok(Self { store, prefix, shown, executor: Some(executor) })
    }

    fn path(&self, name: &str) -> Path {
        let parts = name.split('/').filter(|part| !part.is_empty());
        parts.fold(self.prefix.clone(), Path::join)
    }

    /// Runs one request to its end, its deadline or a cancel.
    fn call<T: Send>(
        &self,
        what: &str,
        deadline: &Deadline,
        request: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let doing = |error: Error| error.context(format!("{what} ({})", self.shown));
        let Some(executor) = &self.executor else {
            return Err(Error::new(ErrorKind::Internal, "the remote's executor is gone"));
        };
        let work = || {
            executor.block_on(async {
                let mut request = std::pin::pin!(request);
                loop {
                    deadline.check("no answer")?;
                    let slice = CANCEL_POLL.min(deadline.remaining());
                    if let Ok(outcome) = tokio::time::timeout(slice, request.as_mut()).await {
                        return outcome;
                    }
                }
            })
        };
        if Handle::try_current().is_err() {
            return work().map_err(doing);
        }
        let joined = std::thread::scope(|scope| scope.spawn(work).join());
        joined.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the call panicked"))).map_err(doing)
    }

    async fn put(&self, name: &str, bytes: Vec<u8>, mode: PutMode) -> Result<PutOutcome> {
        match self.store.put_opts(&self.path(name), PutPayload::from(bytes), mode.into()).await {
            Ok(_) => Ok(PutOutcome::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(PutOutcome::Existed)
            }
            Err(error) => Err(never_absent(&error)),
        }
    }

    async fn read(&self, name: &str, limit_bytes: u64) -> Result<Vec<u8>> {
        let answer = self.store.get(&self.path(name)).await.map_err(|error| of(&error))?;
        let too_large = || {
            let text = format!("the object is larger than the {limit_bytes} bytes that it shall have");
            Error::new(ErrorKind::Limit, text)
        };
        if answer.meta.size > limit_bytes {
            return Err(too_large());
        }
        // The size is a claim of whoever wrote the object, or of the remote.
        let room = usize::try_from(answer.meta.size).unwrap_or(MAX_ROOM_BYTES).min(MAX_ROOM_BYTES);
        let mut bytes = Vec::with_capacity(room);
        let mut chunks = answer.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| of(&error))? {
            if (bytes.len() + chunk.len()) as u64 > limit_bytes {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    async fn names(&self, folder: &str, limit: usize) -> Result<Vec<String>> {
        let path = self.path(folder);
        let mut objects = self.store.list(Some(&path));
        let mut names = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(|error| never_absent(&error))? {
            if names.len() >= limit {
                return Err(Error::new(ErrorKind::Limit, format!("more than {limit} objects in {folder}")));
            }
            let inner = object.location.prefix_match(&self.prefix);
            names.extend(inner.map(|parts| {
                let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
                parts.join("/")
            }));
        }
        Ok(names)
    }
}

impl RemoteObjects for ObjectStoreRemote {
    fn put_new(&self, name: &str, bytes: Vec<u8>, deadline: &Deadline) -> Result<PutOutcome> {
        self.call(&format!("put {name}"), deadline, self.put(name, bytes, PutMode::Create))
    }

    fn replace(&self, name: &str, bytes: Vec<u8>, deadline: &Deadline) -> Result<()> {
        self.call(&format!("replace {name}"), deadline, self.put(name, bytes, PutMode::Overwrite)).map(|_| ())
    }

    fn fetch(&self, name: &str, limit_bytes: u64, deadline: &Deadline) -> Result<Vec<u8>> {
        self.call(&format!("fetch {name}"), deadline, self.read(name, limit_bytes))
    }

    fn list(&self, folder: &str, limit: usize, deadline: &Deadline) -> Result<Vec<String>> {
        self.call(&format!("list {folder}"), deadline, self.names(folder, limit))
    }
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

/// Applies the settings to a builder of any kind.
fn configured<B, K: FromStr>(
    mut builder: B,
    options: &RemoteOptions,
    with: impl Fn(B, K, String) -> B,
) -> Result<B> {
    for (name, value) in &options.environment {
        if let Ok(key) = name.to_ascii_lowercase().parse() {
            builder = with(builder, key, value.clone());
        }
    }
    for (name, value) in &options.settings {
        let key = name.to_ascii_lowercase().parse().map_err(|_| {
            Error::new(ErrorKind::Invalid, format!("this kind of remote has no setting {name:?}"))
        })?;
        builder = with(builder, key, value.clone());
    }
    Ok(builder)
}

/// Opens a folder as a remote; files in it have the modes of the process's umask, so it must be closed.
fn local(path: &FilePath, make: bool) -> Result<LocalFileSystem> {
    if make {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::path("make folder", path, error));
            }
            _ => {}
        }
    }
    let stat =
        std::fs::metadata(path).map_err(|source| Error::path("open the remote's folder", path, source))?;
    if stat.mode() & 0o077 != 0 {
        return Err(Error::new(
            ErrorKind::Refused,
            format!("others can read {} (mode {:04o}): chmod 700 it", path.display(), stat.mode() & 0o7777),
        ));
    }
    let store = LocalFileSystem::new_with_prefix(path).map_err(|error| of(&error))?;
    Ok(store.with_fsync(true))
}

/// Anything but the answer to a question for one object is never "not there".
fn never_absent(error: &object_store::Error) -> Error {
    let error = of(error);
    match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::Peer, error.to_string()),
        _ => error,
    }
}

fn of(error: &object_store::Error) -> Error {
    use object_store::Error as Remote;
    let kind = match error {
        Remote::NotFound { .. } => ErrorKind::NotFound,
        Remote::AlreadyExists { .. } | Remote::Precondition { .. } => ErrorKind::AlreadyExists,
        Remote::PermissionDenied { .. } | Remote::Unauthenticated { .. } => ErrorKind::PermissionDenied,
        Remote::NotSupported { .. } | Remote::NotImplemented { .. } => ErrorKind::Unsupported,
        Remote::InvalidPath { .. } | Remote::UnknownConfigurationKey { .. } => ErrorKind::Invalid,
        _ => os_kind(error).unwrap_or(ErrorKind::Peer),
    };
    Error::new(kind, one_line(error))
}

/// Returns what the operating system said, where it is what failed: a local folder.
fn os_kind(error: &object_store::Error) -> Option<ErrorKind> {
    let mut cause = std::error::Error::source(error);
    // Eight levels are more than any chain of that crate's.
    for _ in 0..8 {
        let current = cause?;
        if let Some(code) = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(Error::io("", std::io::Error::from_raw_os_error(code)).kind());
        }
        cause = current.source();
    }
    None
}

/// Makes one line of at most 400 characters out of another crate's message, which may quote a whole answer.
fn one_line(error: &impl fmt::Display) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}
