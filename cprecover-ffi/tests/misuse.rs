//! `tests/c/misuse_calls.h` describes every exported function to the misuse matrix (`misuse.c`), which
//! `tests/run.sh` runs under the sanitizers and valgrind. It is made of the sources: a new function cannot
//! be forgotten.

use std::fmt::Write as _;
use std::path::Path;

use syn::{FnArg, Item, ItemFn, Pat, ReturnType, Type};

fn exported() -> Vec<ItemFn> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(src).expect("src") {
        let text = std::fs::read_to_string(entry.expect("entry").path()).expect("source");
        let items = syn::parse_file(&text).expect("Rust").items;
        found.extend(items.into_iter().filter_map(|item| match item {
            Item::Fn(function) if function.sig.abi.is_some() => Some(function),
            _ => None,
        }));
    }
    found.sort_by_key(|function| function.sig.ident.to_string());
    found
}

/// A parameter's type: its name, how many pointers lead to it, and whether the outermost is `const`.
struct Parameter {
    name: String,
    ty: String,
    pointers: usize,
    is_const: bool,
}

fn parameter(argument: &FnArg) -> Parameter {
    let FnArg::Typed(argument) = argument else { panic!("no method is exported") };
    let Pat::Ident(name) = &*argument.pat else { panic!("a plain name") };
    let (mut ty, mut pointers, mut is_const) = (&*argument.ty, 0, false);
    while let Type::Ptr(pointer) = ty {
        if pointers == 0 {
            is_const = pointer.const_token.is_some();
        }
        pointers += 1;
        ty = &pointer.elem;
    }
    let Type::Path(path) = ty else { panic!("a named type") };
    let ty = path.path.segments.last().expect("a name").ident.to_string();
    Parameter { name: name.ident.to_string(), ty, pointers, is_const }
}

const HANDLES: [&str; 7] =
    ["cpr_node", "cpr_cancel", "cpr_error", "cpr_policy", "cpr_observation", "cpr_plan", "cpr_regeneration"];

fn upper(ty: &str) -> String {
    ty.trim_start_matches("cpr_").to_uppercase()
}

/// One function as the matrix calls it: `struct slot` values for its parameters, two C parameters (pointer
/// and length, struct and size) taking one.
fn describe(function: &ItemFn) -> String {
    let name = function.sig.ident.to_string();
    let parameters: Vec<Parameter> = function.sig.inputs.iter().map(parameter).collect();
    let (mut kinds, mut arguments) = (Vec::new(), Vec::new());
    let mut rest = parameters.iter();
    while let Some(Parameter { name: parameter, ty, pointers, is_const }) = rest.next() {
        let slot = format!("s[{}]", kinds.len());
        match (ty.as_str(), pointers) {
            ("cpr_error", 2) => {
                arguments.push("e".to_owned());
            }
            (ty, 2) => {
                kinds.push(format!("{{OUT_HANDLE, {}, 0, \"{parameter}\"}}", upper(ty)));
                arguments.push(format!("({ty} **){slot}.ptr"));
            }
            (ty, 1) if HANDLES.contains(&ty) => {
                let kind = if *is_const { "SHARED" } else { "ALONE" };
                kinds.push(format!("{{{kind}, {}, 0, \"{parameter}\"}}", upper(ty)));
                arguments.push(format!("({ty} *){slot}.ptr"));
            }
            (ty @ ("cpr_buf" | "cpr_health"), 1) => {
                kinds.push(format!("{{OUT_STRUCT, 0, sizeof({ty}), \"{parameter}\"}}"));
                arguments.push(format!("({ty} *){slot}.ptr"));
            }
            ("c_char", 1) => {
                rest.next().filter(|next| next.name == format!("{parameter}_len")).expect("a length");
                kinds.push(format!("{{TEXT, 0, 0, \"{parameter}\"}}"));
                arguments.push(format!("(const char *){slot}.ptr, {slot}.len"));
            }
            (ty, 1) => {
                rest.next().filter(|next| next.name == format!("{parameter}_size")).expect("a size");
                let kind = if ty == "cpr_call" { "CALL" } else { "STRUCT" };
                kinds.push(format!("{{{kind}, {}, sizeof({ty}), \"{parameter}\"}}", upper(ty)));
                arguments.push(format!("(const {ty} *){slot}.ptr, {slot}.len"));
            }
            (ty, _) => {
                let ty = match ty {
                    "u32" => "uint32_t",
                    "u64" => "uint64_t",
                    "i32" => "int32_t",
                    "cpr_status" => "cpr_status",
                    other => panic!("{name}: a parameter of type {other}"),
                };
                kinds.push(format!("{{NUMBER, 0, 0, \"{parameter}\"}}"));
                arguments.push(format!("({ty}){slot}.number"));
            }
        }
    }
    let can_fail = arguments.last().is_some_and(|last| last == "e");
    let call = format!("{name}({})", arguments.join(", "));
    let mut text = format!("static cpr_status call_{name}(const struct slot *s, cpr_error **e) {{ ");
    if kinds.is_empty() {
        text.push_str("(void)s; ");
    }
    let returns = match &function.sig.output {
        ReturnType::Type(_, ty) => match &**ty {
            Type::Path(path) if path.path.is_ident("cpr_status") => "return ",
            _ => "(void)",
        },
        ReturnType::Default => "",
    };
    if !can_fail {
        text.push_str("(void)e; ");
    }
    let tail = if returns == "return " { "" } else { " return CPR_OK;" };
    writeln!(text, "{returns}{call};{tail} }}").expect("text");
    format!(
        "{text}#define ROW_{name} {{\"{name}\", call_{name}, {}, {}, {{{}}}}}\n",
        u8::from(can_fail),
        kinds.len(),
        if kinds.is_empty() { "{NUMBER, 0, 0, \"\"}".to_owned() } else { kinds.join(", ") }
    )
}

fn generate() -> String {
    let functions = exported();
    let mut text = String::from(
        "/* Every exported function as the misuse matrix calls it. Made by tests/misuse.rs; do not edit. */\n",
    );
    text.extend(functions.iter().map(describe));
    text.push_str("static const struct function FUNCTIONS[] = {\n");
    for function in &functions {
        writeln!(text, "    ROW_{},", function.sig.ident).expect("text");
    }
    text + "};\n"
}

#[test]
fn the_matrix_knows_every_function() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/misuse_calls.h");
    let fresh = generate();
    if std::env::var_os("CPRECOVER_BLESS").is_some() {
        std::fs::write(&path, &fresh).expect("write");
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (old, new)) in old.lines().zip(fresh.lines()).enumerate() {
        assert_eq!(old, new, "tests/c/misuse_calls.h line {}: run again with CPRECOVER_BLESS=1", number + 1);
    }
    assert_eq!(old, fresh, "tests/c/misuse_calls.h: run again with CPRECOVER_BLESS=1");
    for name in include_str!("symbols.txt").lines() {
        assert!(fresh.contains(&format!("    ROW_{name},\n")), "{name}");
    }
}
