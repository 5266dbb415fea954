//! Policies made at test time from text and the contract.
#![allow(dead_code, clippy::unwrap_used)]

use wasm_encoder::Function;

pub(crate) const WIT: &str = include_str!("../../../policies/sdk/wit/policy.wit");
/// Where the result lies: ok, then the list's pointer and length.
pub(crate) const ANSWER: u32 = 512;
/// Where the first decision lies; 64 bytes each, all zero is `wait(0)`.
pub(crate) const DECISION: u32 = 1024;

/// A core module that implements the contract, around `decide`'s body and `more` module fields.
pub(crate) fn module(decide: &str, more: &str) -> String {
    format!(
        r#"(module
        (import "cprecover:policy/log@0.1.0" "write" (func $log (param i32 i32 i32)))
        (memory (export "memory") 64)
        (global $heap (mut i32) (i32.const 2097152))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
          (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
          (global.set $heap (i32.add (local.get $at) (local.get 3)))
          (local.get $at))
        (data (i32.const 256) "\80\01\00\00\07\00\00\00\88\01\00\00\05\00\00\00")
        (data (i32.const 384) "hostile\001.0.0")
        (func (export "cprecover:policy/policy@0.1.0#describe") (result i32) (i32.const 256))
        (func $decide (export "cprecover:policy/policy@0.1.0#decide") (param i32) (result i32) {decide})
        {more})"#
    )
}

pub(crate) fn component_of(module: &str, wit: &str) -> Vec<u8> {
    let mut core = wat::parse_str(module).expect("the module is text that assembles");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("policy.wit", wit).expect("the contract parses");
    let world = resolve.select_world(&[package], Some("control-plane-policy")).expect("the world is there");
    wit_component::embed_component_metadata(&mut core, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("metadata fits");
    wit_component::ComponentEncoder::default().module(&core).expect("a module").encode().expect("a component")
}

pub(crate) fn component(decide: &str, more: &str) -> Vec<u8> {
    component_of(&module(decide, more), WIT)
}

/// Returns a list of `count` decisions that begins at `at`.
pub(crate) fn answer(at: u32, count: u32) -> String {
    format!(
        "(i32.store (i32.const {}) (i32.const {at})) (i32.store (i32.const {}) (i32.const {count})) (i32.const {ANSWER})",
        ANSWER + 4,
        ANSWER + 8
    )
}

/// Returns the most memory that this process ever had resident, in kB.
pub(crate) fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A policy that decides nothing and imports nothing but the log.
pub(crate) fn quiet() -> Vec<u8> {
    component(&answer(0, 0), "")
}

/// The four components that a compiler without limits takes ten seconds or gigabytes for, with the limit
/// that counts them out: many declared locals in few bytes, very many functions, one giant function, and
/// blocks in blocks.
pub(crate) fn bombs() -> [(&'static str, Vec<u8>, &'static str); 4] {
    use wasm_encoder::ValType;

    let locals = repeated(1_700, &Function::new([(50_000, ValType::I64)]));
    let small = repeated(300_000, &Function::new([]));
    let mut giant = Function::new([]);
    for _ in 0..1_300_000 {
        giant.instructions().i32_const(1).drop();
    }
    let mut nested = Function::new([]);
    for _ in 0..400_000 {
        nested.instructions().block(wasm_encoder::BlockType::Empty);
    }
    for _ in 0..400_000 {
        nested.instructions().end();
    }
    [
        ("17 kB of declared locals", locals, "`locals`"),
        ("300,000 small functions", small, "`bytes`"),
        ("one 5 MB function", repeated(1, &giant), "`bytes`"),
        ("400,000 nested blocks", repeated(1, &nested), "`bytes`"),
    ]
}

/// A component with one core module of `count` times this function, without its end.
fn repeated(count: u32, body: &Function) -> Vec<u8> {
    use wasm_encoder::{CodeSection, Component, FunctionSection, Module, ModuleSection, TypeSection};

    let mut body = body.clone();
    body.instructions().end();
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    for _ in 0..count {
        functions.function(0);
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    let mut component = Component::new();
    component.section(&ModuleSection(&module));
    component.finish()
}
