//! Whether the wall clock can be right.

use super::{CertificateFact, ClockFact};

/// Compares the clock with the newest certificate that the node's own kubeadm made: its validity began
/// when it was made, at the latest (kubeadm backdates by five minutes), so an earlier clock is wrong.
///
/// A node with a clock that was never set shows 1970 or the date of its firmware.
pub(super) fn judge(now_unix: i64, certificates: &[CertificateFact]) -> ClockFact {
    /// The first release of this program: 2026-01-01.
    const BUILT: i64 = 1_767_225_600;
    let newest = certificates.iter().max_by_key(|certificate| certificate.not_before_unix);
    match newest.filter(|certificate| certificate.not_before_unix > BUILT) {
        Some(certificate) => ClockFact {
            now_unix,
            not_before_unix: certificate.not_before_unix,
            witness: format!("the beginning of {}", certificate.path.display()),
        },
        None => {
            ClockFact { now_unix, not_before_unix: BUILT, witness: "the release of this program".to_owned() }
        }
    }
}
