//! Making sealed artifacts.

use std::hash::{Hash as _, Hasher};

use hmac::Mac as _;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::{Admission, DIGEST_BYTES, EngineId, HEADER_BYTES, Key, MAGIC};

impl EngineId {
    /// Returns the id of `engine`; it is computed anew each time.
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
