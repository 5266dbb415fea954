//! The bindings, generated from the WIT file, and the macro that exports a policy.

// The generated code has its own style.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unsafe_op_in_unsafe_fn)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "control-plane-policy",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "cprecover_policy_sdk::bindings",
        additional_derives: [PartialEq],
    });
}

pub use bindings::cprecover::policy::log;
/// The contract's types, as `wit/policy.wit` defines them.
pub use bindings::cprecover::policy::types as contract;
#[doc(hidden)]
pub use bindings::{export_bindings, exports};

/// Exports a policy: a function that describes it and one that decides.
///
/// ```ignore
/// fn describe() -> Metadata { … }
/// fn decide(observation: Observation) -> Result<Vec<Decision>, String> { … }
/// cprecover_policy_sdk::export_policy!(describe, decide);
/// ```
#[macro_export]
macro_rules! export_policy {
    ($describe:path, $decide:path) => {
        struct Exported;

        impl $crate::exports::cprecover::policy::policy::Guest for Exported {
            fn describe() -> $crate::contract::Metadata {
                $describe()
            }

            fn decide(
                observation: $crate::contract::Observation,
            ) -> Result<Vec<$crate::contract::Decision>, String> {
                $decide(observation)
            }
        }

        $crate::export_bindings!(Exported with_types_in $crate::bindings);
    };
}
