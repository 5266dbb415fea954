//! Compiling a component: here, or in a process that can be killed.
//!
//! Counting first ([`CompileLimits`]) keeps what is compiled here small. No count bounds what a
//! compiler's worst case is, so that larger components, and those of strangers, are compiled by a
//! [`WorkerCompiler`]: a child with an end, a limit of memory and nothing else to lose.

use std::fmt;
use std::io::{Read, Write};

use cprecover_policy_artifact as artifact;

use super::engine::{engine, policy_error};
use crate::error::{Error, ErrorKind, Result};

/// Begins a job that is handed to a worker.
const MAGIC: &[u8; 8] = b"CPRJOB\x00\x01";
/// The largest component that a worker takes, in bytes.
const MAX_COMPONENT_BYTES: u64 = 128 << 20;

/// Turns a component into machine code.
pub trait Compiler: fmt::Debug + Send + Sync {
    /// Compiles and seals.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] with the limit's name, [`ErrorKind::Policy`] for what is no component.
    fn compile(&self, job: &CompileJob<'_>) -> Result<Vec<u8>>;
}

/// A component to compile, and the key under which the result is sealed.
pub struct CompileJob<'a> {
    component: &'a [u8],
    key: &'a artifact::Key,
    admission: artifact::Admission,
}

impl fmt::Debug for CompileJob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompileJob({} bytes, {:?})", self.component.len(), self.admission)
    }
}

impl<'a> CompileJob<'a> {
    pub(super) const fn new(
        component: &'a [u8],
        key: &'a artifact::Key,
        admission: artifact::Admission,
    ) -> Self {
        Self { component, key, admission }
    }

    /// Compiles in this process, for as long as it takes.
    ///
    /// # Errors
    /// [`ErrorKind::Policy`] for what is no component, or what the compiler refuses.
    pub fn compile(&self) -> Result<Vec<u8>> {
        let engine = engine()?;
        let compile = || artifact::compile(engine, self.component, self.key, self.admission);
        // A compiler's panic over some component is an answer about that component.
        let compiled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compile));
        compiled
            .map_err(|_| Error::new(ErrorKind::Policy, "compile the policy: the compiler panicked"))?
            .map_err(|source| policy_error("compile the policy", &source))
    }

    /// Writes the job for [`serve_compile`]; it holds the key, so nobody else may read it.
    ///
    /// # Errors
    /// The kinds of a failed write.
    pub fn write_to(&self, output: &mut dyn Write) -> Result<()> {
        let parts = [MAGIC.as_slice(), &[self.admission.as_byte()], self.key.as_bytes(), self.component];
        parts
            .into_iter()
            .try_for_each(|part| output.write_all(part))
            .map_err(|source| Error::io("write the compile job", source))
    }
}

/// Compiles in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

impl Compiler for InProcess {
    fn compile(&self, job: &CompileJob<'_>) -> Result<Vec<u8>> {
        job.compile()
    }
}

/// The worker's side: reads a job, compiles it, writes the sealed result.
///
/// # Errors
/// [`ErrorKind::Invalid`] for what is no job, else as [`CompileJob::compile`].
pub fn serve_compile(input: &mut dyn Read, output: &mut dyn Write) -> Result<()> {
    let malformed = || Error::new(ErrorKind::Invalid, "not a compile job");
    let mut job = Vec::new();
    input
        .take(MAX_COMPONENT_BYTES)
        .read_to_end(&mut job)
        .map_err(|source| Error::io("read the compile job", source))?;
    let rest = job.strip_prefix(MAGIC.as_slice()).ok_or_else(malformed)?;
    let (admission, rest) = rest.split_first().ok_or_else(malformed)?;
    let admission = artifact::Admission::from_byte(*admission).ok_or_else(malformed)?;
    let (key, component) = rest.split_first_chunk::<32>().ok_or_else(malformed)?;
    let key = artifact::Key::from_bytes(*key);
    let sealed = CompileJob { component, key: &key, admission }.compile()?;
    output
        .write_all(&sealed)
        .and_then(|()| output.flush())
        .map_err(|source| Error::io("write the compiled policy", source))
}
