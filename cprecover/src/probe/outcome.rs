//! How a probe ended.

use serde::{Deserialize, Serialize};

use crate::healthz::Report;

/// The part of a probe during which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// Opening the TCP connection.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Waiting for the first byte of the answer.
    FirstByte,
    /// Reading the answer.
    Body,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// The server answered.
    Answered {
        /// The parsed answer, with its HTTP status in `code`.
        report: Report,
    },
    /// Nobody listens there (ECONNREFUSED).
    Refused,
    /// No TCP connection within the connect deadline.
    Timeout,
    /// Connected, but silent until the deadline: the process hangs or is stopped.
    Hung {
        /// Where it stayed silent.
        phase: Phase,
    },
    /// The TLS handshake failed; something alive listens.
    Tls {
        /// Why, as rustls says it.
        reason: String,
    },
    /// The peer reset or closed the connection before the answer was complete.
    Reset {
        /// When it did.
        phase: Phase,
    },
    /// The address cannot be reached from here (no route, no such address).
    Unreachable {
        /// Why, as the kernel says it.
        reason: String,
    },
    /// It answered, but not in HTTP/1.
    NotHttp {
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Outcome {
    /// Makes the outcome of an answer that was recorded.
    #[must_use]
    pub const fn answered(report: Report) -> Self {
        Self::Answered { report }
    }
}
