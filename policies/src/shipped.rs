//! The shipped policies as components, built by `policies/build`.

use crate::Profile;

/// What `sha256sum` printed when the components were built.
pub const SHA256SUMS: &str = include_str!("../components/SHA256SUMS");

/// Returns a shipped policy as a component.
#[must_use]
pub const fn component(profile: Profile) -> &'static [u8] {
    match profile {
        Profile::Default => include_bytes!("../components/default.wasm"),
        Profile::ObserveOnly => include_bytes!("../components/observe-only.wasm"),
        Profile::Conservative => include_bytes!("../components/conservative.wasm"),
        Profile::AggressiveSingleNode => include_bytes!("../components/aggressive-single-node.wasm"),
    }
}
