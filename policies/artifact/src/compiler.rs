//! Making sealed artifacts.

use std::fmt;
use std::hash::{Hash as _, Hasher};

use hmac::Mac as _;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::{Admission, DIGEST_BYTES, HEADER_BYTES, Key, MAGIC};

/// Names an engine: two engines with the same id run each other's code.
///
/// It covers the engine's version, its settings and the processor's features.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EngineId([u8; DIGEST_BYTES]);

impl EngineId {
    /// Returns the id of `engine`.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        struct Collect(Sha256);
        impl Hasher for Collect {
            fn write(&mut self, bytes: &[u8]) {
                self.0.update(bytes);
            }
            fn finish(&self) -> u64 {
                0
            }
        }
        let mut hasher = Collect(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }

    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        self.0 == bytes
    }
}

impl fmt::Display for EngineId {
    /// Writes the first 16 hex digits: enough to tell file names apart, the header holds all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineId({self})")
    }
}

/// Compiles a component and seals the result under `key`.
///
/// # Errors
/// The compiler's, for a component that is malformed or that it cannot compile.
pub fn compile(
    engine: &Engine,
    component: &[u8],
    key: &Key,
    admission: Admission,
) -> wasmtime::Result<Vec<u8>> {
    let code = engine.precompile_component(component)?;
    let mut sealed = Vec::with_capacity(HEADER_BYTES + code.len() + DIGEST_BYTES);
    sealed.extend_from_slice(MAGIC);
    sealed.push(admission.as_byte());
    sealed.extend_from_slice(&EngineId::of(engine).0);
    sealed.extend_from_slice(&Sha256::digest(component));
    sealed.extend_from_slice(&code);
    let seal = key.mac(&sealed).map_err(|refusal| wasmtime::format_err!("{refusal}"))?;
    sealed.extend_from_slice(&seal.finalize().into_bytes());
    Ok(sealed)
}
