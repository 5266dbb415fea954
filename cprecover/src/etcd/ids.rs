//! Identifiers of members and clusters.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Declares a 64-bit identifier that etcd prints in hex without leading zeros
/// (etcd `client/pkg/types/id.go`).
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                u64::from_str_radix(text, 16).map(Self).map_err(|source| {
                    Error::with_source(ErrorKind::Invalid, format!("etcd id {text:?} is not hex"), source)
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id! {
    /// The id of an etcd member, written in hex as etcd's logs do.
    MemberId
}
hex_id! {
    /// The id of an etcd cluster, written in hex as etcd's logs do.
    ClusterId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hex_in_json_and_text() {
        let id = MemberId::new(0x8e9e_05c5_2164_694d);
        assert_eq!(id.to_string(), "8e9e05c52164694d");
        let json = serde_json::to_string(&id).expect("serialises");
        assert_eq!(json, "\"8e9e05c52164694d\"");
        assert_eq!(serde_json::from_str::<MemberId>(&json).expect("parses"), id);
        assert_eq!("xyz".parse::<ClusterId>().expect_err("not hex").kind(), ErrorKind::Invalid);
    }
}
