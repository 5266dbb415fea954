//! Every exported function is one call of a frame, in the sources, in the list and in the header.

use std::collections::BTreeSet;
use std::path::Path;

use syn::{Block, Expr, Item, ItemFn, Stmt};

const GUARDS: [&str; 6] = ["guard", "guard_value", "guard_free", "produce", "describe", "on_node"];

fn exported() -> Vec<ItemFn> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(src).expect("src") {
        let path = entry.expect("entry").path();
        let text = std::fs::read_to_string(&path).expect("source");
        let file = syn::parse_file(&text).expect("Rust");
        let functions = file.items.into_iter().filter_map(|item| match item {
            Item::Fn(function) if function.sig.abi.is_some() => Some(function),
            _ => None,
        });
        found.extend(functions);
    }
    found
}

/// Returns the name of the one function that a block calls and does nothing else.
fn only_call(block: &Block) -> Option<String> {
    let [Stmt::Expr(expr, _)] = block.stmts.as_slice() else { return None };
    match expr {
        Expr::Unsafe(inner) => only_call(&inner.block),
        Expr::Call(call) => match call.func.as_ref() {
            Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
            _ => None,
        },
        _ => None,
    }
}

#[test]
fn every_exported_function_is_one_call_of_a_frame() {
    let functions = exported();
    assert!(functions.len() > 30, "only {} found: this test looks in the wrong place", functions.len());
    for function in functions {
        let name = &function.sig.ident;
        let call = only_call(&function.block);
        assert!(call.as_deref().is_some_and(|call| GUARDS.contains(&call)), "{name}: {call:?}");
        assert!(
            function.attrs.iter().any(|attribute| attribute.path().is_ident("doc")),
            "{name} has no documentation"
        );
    }
}

#[test]
fn the_list_and_the_header_name_exactly_the_exported_functions() {
    let functions: BTreeSet<String> =
        exported().iter().map(|function| function.sig.ident.to_string()).collect();
    let list: BTreeSet<String> = include_str!("symbols.txt").lines().map(str::to_owned).collect();
    assert_eq!(list, functions, "tests/symbols.txt is the reviewed list of the ABI");
    let header =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/cprecover.h"))
            .expect("header");
    for name in list {
        assert!(header.contains(&format!("{name}(")), "{name} is not in the header");
    }
}
