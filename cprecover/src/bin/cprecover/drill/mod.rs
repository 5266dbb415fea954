//! The drill: a disposable node is built, broken as in the outage, and recovered.

mod pki;
