//! What a component may contain: counted before anything is compiled.
//!
//! No engine setting bounds compile time: a 17 kB module of declared locals compiles for ten seconds, 300,000
//! small functions for thirteen and 1.6 GB. So everything that the compiler's work grows with is counted
//! with wasmparser first, which itself is linear in the bytes.

use wasmparser::{Operator, Parser, Payload};

use crate::error::{Error, ErrorKind, Result};

/// Bounds of what is compiled; the shipped policies need about a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CompileLimits {
    /// Size of the file, in bytes.
    pub bytes: usize,
    /// Functions in all modules.
    pub functions: u32,
    /// Locals of one function.
    pub locals: u32,
    /// Locals of all functions together.
    pub all_locals: u32,
    /// Size of one function's body, in bytes.
    pub body_bytes: usize,
    /// Blocks in blocks in one function.
    pub nesting: u32,
    /// Types in all modules and components.
    pub types: u32,
    /// Imports in all modules and components.
    pub imports: u32,
    /// Modules, components and instances.
    pub modules: u32,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            functions: 5_000,
            locals: 2_000,
            all_locals: 40_000,
            body_bytes: 64 << 10,
            nesting: 200,
            types: 2_000,
            imports: 200,
            modules: 20,
        }
    }
}

impl CompileLimits {
    /// Admits nothing; counting begins with it.
    const NONE: Self = Self {
        bytes: 0,
        functions: 0,
        locals: 0,
        all_locals: 0,
        body_bytes: 0,
        nesting: 0,
        types: 0,
        imports: 0,
        modules: 0,
    };

    /// Room for components that carry a language's runtime; only a killable compiler may get these.
    #[must_use]
    pub fn raised() -> Self {
        Self {
            bytes: 64 << 20,
            functions: 100_000,
            locals: 20_000,
            all_locals: 4_000_000,
            body_bytes: 4 << 20,
            nesting: 2_000,
            types: 20_000,
            imports: 10_000,
            modules: 200,
        }
    }
}

/// Names the limit that was passed.
pub(super) fn over_limit(name: &str, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Limit, format!("policy limit `{name}`: {what}"))
}

fn over(name: &str, count: impl std::fmt::Display, limit: impl std::fmt::Display) -> Error {
    over_limit(name, format!("{count} is more than {limit}"))
}

fn malformed(source: wasmparser::BinaryReaderError) -> Error {
    Error::with_source(ErrorKind::Policy, "not a WebAssembly component", source)
}

impl CompileLimits {
    /// Counts what is in `bytes` and returns the lowest limits that admit it; compiles and runs nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] naming the limit, [`ErrorKind::Policy`] for bytes that are no component.
    pub fn check(&self, bytes: &[u8]) -> Result<Self> {
        if bytes.len() > self.bytes {
            return Err(over("bytes", bytes.len(), self.bytes));
        }
        if !Parser::is_component(bytes) {
            let what =
                if Parser::is_core_wasm(bytes) { "a core module, not a component" } else { "no WebAssembly" };
            return Err(Error::new(ErrorKind::Policy, format!("the file is {what}")));
        }
        let mut counted = Self { bytes: bytes.len(), ..Self::NONE };
        for payload in Parser::new(0).parse_all(bytes) {
            self.count(&payload.map_err(malformed)?, &mut counted)?;
        }
        Ok(counted)
    }

    fn count(&self, payload: &Payload<'_>, counted: &mut Self) -> Result<()> {
        match payload {
            // One entry may be a whole recursion group.
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    let types = group.map_err(malformed)?.types().len();
                    counted.types = counted.types.saturating_add(u32::try_from(types).unwrap_or(u32::MAX));
                }
            }
            Payload::ComponentTypeSection(section) => {
                counted.types = counted.types.saturating_add(section.count());
            }
            Payload::CoreTypeSection(section) => {
                counted.types = counted.types.saturating_add(section.count());
            }
            Payload::ImportSection(section) => {
                counted.imports = counted.imports.saturating_add(section.count());
            }
            Payload::ComponentImportSection(section) => {
                counted.imports = counted.imports.saturating_add(section.count());
            }
            Payload::FunctionSection(section) => {
                counted.functions = counted.functions.saturating_add(section.count());
            }
            Payload::ComponentCanonicalSection(section) => {
                counted.functions = counted.functions.saturating_add(section.count());
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => counted.modules += 1,
            Payload::InstanceSection(section) => {
                counted.modules = counted.modules.saturating_add(section.count());
            }
            Payload::ComponentInstanceSection(section) => {
                counted.modules = counted.modules.saturating_add(section.count());
            }
            Payload::CodeSectionEntry(body) => {
                self.body(body, counted)?;
            }
            _ => {}
        }
        for (name, count, limit) in [
            ("functions", counted.functions, self.functions),
            ("all-locals", counted.all_locals, self.all_locals),
            ("types", counted.types, self.types),
            ("imports", counted.imports, self.imports),
            ("modules", counted.modules, self.modules),
        ] {
            if count > limit {
                return Err(over(name, count, limit));
            }
        }
        Ok(())
    }

    fn body(&self, body: &wasmparser::FunctionBody<'_>, counted: &mut Self) -> Result<()> {
        let size = body.range().len();
        counted.body_bytes = counted.body_bytes.max(size);
        if size > self.body_bytes {
            return Err(over("body-bytes", size, self.body_bytes));
        }
        let mut locals = 0_u32;
        for local in body.get_locals_reader().map_err(malformed)? {
            locals = locals.saturating_add(local.map_err(malformed)?.0);
            if locals > self.locals {
                return Err(over("locals", locals, self.locals));
            }
        }
        counted.locals = counted.locals.max(locals);
        counted.all_locals = counted.all_locals.saturating_add(locals);
        let mut depth = 0_u32;
        for operator in body.get_operators_reader().map_err(malformed)? {
            match operator.map_err(malformed)? {
                Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::TryTable { .. } => {
                    depth += 1;
                    counted.nesting = counted.nesting.max(depth);
                    if depth > self.nesting {
                        return Err(over("nesting", depth, self.nesting));
                    }
                }
                Operator::End => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        Ok(())
    }
}
