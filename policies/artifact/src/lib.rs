//! Compiled policies, sealed so that only what the engine itself compiled is ever loaded.
//!
//! wasmtime runs whatever machine code a compiled file holds, so loading one is `unsafe`. This crate is
//! the one place that does it, and it exists to keep that small: [`compile`] is the only way to make a
//! sealed artifact, [`open`] checks the seal under the same [`Key`], and only what passed can be
//! [loaded](Opened::load).
//!
//! The seal is HMAC-SHA-256 over everything before it; the header names the component's SHA-256, the
//! engine that compiled it, and under which limits it was admitted.

#![deny(unsafe_code)]

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

const MAGIC: &[u8; 8] = b"CPRPOL\x00\x02";
const DIGEST_BYTES: usize = 32;
#[cfg(feature = "compile")]
const HEADER_BYTES: usize = MAGIC.len() + 1 + 2 * DIGEST_BYTES;

/// A secret that seals artifacts; whoever can read it can make machine code that is run.
pub struct Key([u8; 32]);

impl Key {
    /// Wraps 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, to hand them to the process that compiles.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, bytes: &[u8]) -> Result<Hmac<Sha256>, Refusal> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(|_| Refusal::Seal)?;
        mac.update(bytes);
        Ok(mac)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Says why an artifact is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is no artifact, or not all of one.
    Malformed,
    /// It is of another component.
    OtherComponent,
    /// Another version or configuration of the engine compiled it.
    OtherEngine,
    /// The seal does not fit: it was changed, or sealed under another key.
    Seal,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not a whole artifact",
            Self::OtherComponent => "it was compiled from another component",
            Self::OtherEngine => "another engine compiled it",
            Self::Seal => "its seal does not fit: it was changed or sealed elsewhere",
        })
    }
}

impl std::error::Error for Refusal {}

/// Under which limits a component was admitted; the limits of running it follow from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The limits that every policy has to keep.
    Strict,
    /// Raised limits, ahead of need: for components that carry a language's runtime.
    Raised,
}

impl Admission {
    /// Returns the byte that stands for it.
    #[must_use]
    pub const fn as_byte(self) -> u8 {
        match self {
            Self::Strict => 0,
            Self::Raised => 1,
        }
    }

    /// Returns what a byte stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Strict),
            1 => Some(Self::Raised),
            _ => None,
        }
    }
}

#[cfg(feature = "compile")]
mod compiler;
#[cfg(feature = "compile")]
pub use compiler::compile;

/// Names an engine: two engines with the same id run each other's code.
///
/// It covers the engine's version, its settings and the processor's features.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EngineId([u8; DIGEST_BYTES]);

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

/// An artifact whose seal was checked.
pub struct Opened<'a> {
    code: &'a [u8],
    engine: &'a Engine,
    admission: Admission,
}

impl fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened({} bytes)", self.code.len())
    }
}

/// Checks that `sealed` is the artifact of the component with digest `component` for `engine`.
///
/// Without feature `compile` the engine's `id` cannot be computed; then wasmtime's own record in the code
/// (version, settings, processor features), which the seal covers, is what [`Opened::load`] checks.
///
/// # Errors
/// A [`Refusal`]; nothing of the artifact has been used then.
pub fn open<'a>(
    engine: &'a Engine,
    id: Option<EngineId>,
    component: &[u8; 32],
    key: &Key,
    sealed: &'a [u8],
) -> Result<Opened<'a>, Refusal> {
    let body = sealed.len().checked_sub(DIGEST_BYTES).ok_or(Refusal::Malformed)?;
    let (body, seal) = sealed.split_at_checked(body).ok_or(Refusal::Malformed)?;
    let rest = body.strip_prefix(MAGIC.as_slice()).ok_or(Refusal::Malformed)?;
    let (admission, rest) = rest.split_first().ok_or(Refusal::Malformed)?;
    let (compiler, rest) = rest.split_at_checked(DIGEST_BYTES).ok_or(Refusal::Malformed)?;
    let (source, code) = rest.split_at_checked(DIGEST_BYTES).ok_or(Refusal::Malformed)?;
    // The seal first: nothing else in the file means anything before it.
    key.mac(body)?.verify_slice(seal).map_err(|_| Refusal::Seal)?;
    if id.is_some_and(|id| id.0 != compiler) {
        return Err(Refusal::OtherEngine);
    }
    if source != component {
        return Err(Refusal::OtherComponent);
    }
    let admission = Admission::from_byte(*admission).ok_or(Refusal::Malformed)?;
    Ok(Opened { code, engine, admission })
}

impl Opened<'_> {
    /// Returns under which limits the component was admitted.
    #[must_use]
    pub const fn admission(&self) -> Admission {
        self.admission
    }

    /// Loads the machine code.
    ///
    /// # Errors
    /// wasmtime's own check of the header.
    #[allow(unsafe_code)]
    pub fn load(&self) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` demands bytes that `precompile_component` made and that nobody changed.
        // `compile` is the only function that seals, it seals nothing else, and `open` has checked the
        // HMAC over these very bytes, which stay borrowed.
        unsafe { Component::deserialize(self.engine, self.code) }
    }
}

#[cfg(all(test, feature = "compile"))]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use sha2::Digest as _;

    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn sealed(engine: &Engine) -> Vec<u8> {
        compile(engine, COMPONENT, &Key([7; 32]), Admission::Raised).expect("an empty component compiles")
    }

    #[test]
    fn what_was_compiled_here_loads() {
        let engine = Engine::default();
        let sealed = sealed(&engine);
        let digest = Sha256::digest(COMPONENT).into();
        let key = Key([7; 32]);
        let opened = open(&engine, Some(EngineId::of(&engine)), &digest, &key, &sealed).expect("opens");
        assert_eq!(opened.admission(), Admission::Raised);
        opened.load().expect("loads");
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_refused() {
        let engine = Engine::default();
        let sealed = sealed(&engine);
        let digest = Sha256::digest(COMPONENT).into();
        for at in (0..sealed.len()).step_by(97).chain(sealed.len() - 40..sealed.len()) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                open(&engine, Some(EngineId::of(&engine)), &digest, &Key([7; 32]), &changed).is_err(),
                "byte {at}"
            );
            assert!(
                open(&engine, Some(EngineId::of(&engine)), &digest, &Key([7; 32]), &sealed[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn another_key_component_or_engine_is_refused() {
        let engine = Engine::default();
        let sealed = sealed(&engine);
        let digest = Sha256::digest(COMPONENT).into();
        assert_eq!(
            open(&engine, Some(EngineId::of(&engine)), &digest, &Key([8; 32]), &sealed)
                .expect_err("another key"),
            Refusal::Seal
        );
        assert_eq!(
            open(&engine, Some(EngineId::of(&engine)), &[0; 32], &Key([7; 32]), &sealed)
                .expect_err("another component"),
            Refusal::OtherComponent
        );
        let other = Engine::new(wasmtime::Config::new().consume_fuel(true)).expect("engine");
        assert_eq!(
            open(&other, Some(EngineId::of(&other)), &digest, &Key([7; 32]), &sealed)
                .expect_err("another engine"),
            Refusal::OtherEngine
        );
    }
}
