//! Asks a health endpoint over HTTP or HTTPS, bounded in time and size, without hidden threads.
//!
//! One request, one connection, no redirects, no proxy, no name look-up: the target is an address.
//! Without the feature `probe` only the outcome's types are here, so that recorded outcomes can be read.

#[cfg(feature = "probe")]
mod client;
#[cfg(feature = "probe")]
mod http;
mod outcome;
#[cfg(feature = "probe")]
mod prober;
#[cfg(feature = "probe")]
mod target;
#[cfg(all(test, feature = "probe"))]
mod tests;
#[cfg(feature = "probe")]
mod tls;

#[cfg(feature = "probe")]
pub use client::probe;
#[cfg(feature = "probe")]
pub(crate) use http::read_any as read_response;
pub use outcome::{Outcome, Phase};
#[cfg(feature = "probe")]
pub use prober::Prober;
#[cfg(feature = "probe")]
pub(crate) use target::target_of_pod;
#[cfg(feature = "probe")]
pub use target::{ClientIdentity, Limits, Target, Trust, target_of};
