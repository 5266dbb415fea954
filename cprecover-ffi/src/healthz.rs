//! Health answers.

use std::ffi::c_char;

use cprecover::healthz::{self, CheckState, Report, Verdict};

use crate::args::{Empty, bytes};
use crate::buf::cpr_buf;
use crate::error::cpr_error;
use crate::failure::Failure;
use crate::frame::produce;
use crate::json;
use crate::status::{CPR_E_ARGUMENT, cpr_status};

/// Nothing could be read as a health answer.
pub const CPR_HEALTH_UNKNOWN: i32 = 0;
/// It says that it is healthy.
pub const CPR_HEALTH_HEALTHY: i32 = 1;
/// It says that it is not.
pub const CPR_HEALTH_UNHEALTHY: i32 = 2;
/// It is alive, but says nothing about its health (401, 403, 404, ...).
pub const CPR_HEALTH_UNDETERMINED: i32 = 3;

/// A health answer in brief.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct cpr_health {
    /// `CPR_HEALTH_*`.
    pub verdict: i32,
    /// How many checks it reports.
    pub checks: u32,
    /// How many of them failed.
    pub failed: u32,
    /// Whether the check named `etcd` failed: 0 or 1.
    pub etcd_failed: u32,
}

impl Empty for cpr_health {
    const EMPTY: Self = Self { verdict: CPR_HEALTH_UNKNOWN, checks: 0, failed: 0, etcd_failed: 0 };
}

/// Parses the answer of a health endpoint (`/healthz`, `/livez`, `/readyz`, etcd's `/health`) and writes
/// it as JSON (`cprecover.dev/health/v1`). Any bytes are fine: what is no answer has verdict `unknown`.
///
/// `http_status` is the answer's HTTP status, 0 when it is not known.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_healthz_parse(
    http_status: u32,
    body: *const c_char,
    body_len: usize,
    json: *mut cpr_buf,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe {
        produce(json, err, || {
            let report = parse(http_status, bytes(body, body_len, "body")?)?;
            json::buf("cprecover.dev/health/v1", &report)
        })
    }
}

/// Parses the answer of a health endpoint as `cpr_healthz_parse` does and writes it in brief.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cpr_healthz_brief(
    http_status: u32,
    body: *const c_char,
    body_len: usize,
    health: *mut cpr_health,
    err: *mut *mut cpr_error,
) -> cpr_status {
    // SAFETY: every pointer keeps the contract of the header.
    unsafe { produce(health, err, || Ok(brief(&parse(http_status, bytes(body, body_len, "body")?)?))) }
}

fn parse(http_status: u32, body: &[u8]) -> Result<Report, Failure> {
    let code = match http_status {
        0 => None,
        100..=999 => u16::try_from(http_status).ok(),
        other => {
            return Err(Failure::new(CPR_E_ARGUMENT, format!("http_status {other} is no HTTP status")));
        }
    };
    Ok(healthz::parse_response(code, body))
}

fn brief(report: &Report) -> cpr_health {
    // The parser keeps at most Report::MAX_CHECKS checks.
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    cpr_health {
        verdict: match report.verdict {
            Verdict::Healthy => CPR_HEALTH_HEALTHY,
            Verdict::Unhealthy => CPR_HEALTH_UNHEALTHY,
            Verdict::AliveUndetermined => CPR_HEALTH_UNDETERMINED,
            _ => CPR_HEALTH_UNKNOWN,
        },
        checks: count(report.checks.len()),
        failed: count(report.checks.iter().filter(|check| check.state == CheckState::Failed).count()),
        etcd_failed: u32::from(report.has_failed("etcd")),
    }
}
