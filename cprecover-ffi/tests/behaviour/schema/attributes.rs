//! What `#[serde(...)]` and doc comments say.

use syn::{Attribute, LitStr, Meta};

/// The serde attributes of one type, variant or field, as far as they change what is serialised.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an attribute")]
pub(crate) struct Serde {
    pub(crate) rename: Option<String>,
    pub(crate) rename_all: Option<String>,
    pub(crate) rename_all_fields: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) content: Option<String>,
    pub(crate) untagged: bool,
    pub(crate) transparent: bool,
    /// `into` of a type, `with` of a field: serialised as something else.
    pub(crate) other: Option<String>,
    pub(crate) closed: bool,
    pub(crate) skip: bool,
    pub(crate) skip_if: bool,
    pub(crate) flatten: bool,
}

impl Serde {
    pub(crate) fn of(attributes: &[Attribute]) -> Self {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            let read = attribute.parse_nested_meta(|meta| {
                let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let value = if meta.input.peek(syn::Token![=]) {
                    Some(meta.value()?.parse::<LitStr>()?.value())
                } else {
                    None
                };
                match name.as_str() {
                    "rename" => found.rename = value,
                    "rename_all" => found.rename_all = value,
                    "rename_all_fields" => found.rename_all_fields = value,
                    "tag" => found.tag = value,
                    "content" => found.content = value,
                    "untagged" => found.untagged = true,
                    "transparent" => found.transparent = true,
                    "into" | "with" => found.other = value,
                    "deny_unknown_fields" => found.closed = true,
                    "skip" => found.skip = true,
                    "skip_serializing_if" => found.skip_if = true,
                    "flatten" => found.flatten = true,
                    // These are about reading only.
                    "default" | "borrow" | "alias" | "try_from" | "bound" => {}
                    other => return Err(meta.error(format!("the schemas know no serde attribute {other}"))),
                }
                Ok(())
            });
            read.expect("serde attributes that this generator knows");
        }
        found
    }
}

/// Returns the first sentence of a doc comment without its links.
pub(crate) fn description(attributes: &[Attribute]) -> Option<String> {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let text: Vec<String> =
        lines.map(|line| line.trim().to_owned()).take_while(|line| !line.is_empty()).collect();
    let text = text.join(" ").replace("[`", "`").replace("`]", "`");
    let sentence = text.split_inclusive(". ").next().unwrap_or(&text).trim();
    (!sentence.is_empty()).then(|| sentence.to_owned())
}

/// Renames a field (`snake_case`) as serde's rule does.
pub(crate) fn field_name(name: &str, rule: Option<&str>) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    match rule {
        None | Some("snake_case" | "lowercase") => name.to_owned(),
        Some("kebab-case") => name.replace('_', "-"),
        Some("camelCase") => {
            let mut words = name.split('_');
            let first = words.next().unwrap_or_default().to_owned();
            words.fold(first, |joined, word| joined + &capitalised(word))
        }
        Some(other) => panic!("the schemas know no rule {other} for fields"),
    }
}

/// Renames a variant (`PascalCase`) as serde's rule does.
pub(crate) fn variant_name(name: &str, rule: Option<&str>) -> String {
    match rule {
        None => name.to_owned(),
        Some("lowercase") => name.to_lowercase(),
        Some("camelCase") => {
            let mut letters = name.chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
        Some(rule @ ("kebab-case" | "snake_case")) => {
            let dash = if rule == "kebab-case" { '-' } else { '_' };
            let mut text = String::new();
            for (index, letter) in name.chars().enumerate() {
                if letter.is_uppercase() && index > 0 {
                    text.push(dash);
                }
                text.extend(letter.to_lowercase());
            }
            text
        }
        Some(other) => panic!("the schemas know no rule {other} for variants"),
    }
}

/// Returns `word` with its first letter in upper case.
pub(crate) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
