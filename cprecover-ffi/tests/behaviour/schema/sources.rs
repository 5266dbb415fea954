//! The types of a crate's sources by their paths, and how a name in one module leads to a type in another.

use std::collections::BTreeMap;
use std::path::Path;

use syn::{Item, ItemEnum, ItemStruct, UseTree};

/// A type that can be in JSON.
#[derive(Clone)]
pub(crate) enum Definition {
    Struct(ItemStruct),
    Enum(ItemEnum),
}

#[derive(Default)]
struct Module {
    types: BTreeMap<String, Definition>,
    uses: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

/// Crates by their modules' paths (`cprecover::healthz`).
#[derive(Default)]
pub(crate) struct Sources {
    modules: BTreeMap<String, Module>,
}

/// Re-exports lead to re-exports; more than this many are a circle.
const MAX_STEPS: usize = 16;

impl Sources {
    /// Reads a crate from its `lib.rs` or from another file that is its root.
    pub(crate) fn read(&mut self, name: &str, root: &Path) {
        let folder = root.parent().expect("a folder").to_owned();
        self.read_file(name, root, &folder);
    }

    fn read_file(&mut self, module: &str, file: &Path, folder: &Path) {
        let text =
            std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(module, parsed.items, folder);
    }

    fn read_items(&mut self, module: &str, items: Vec<Item>, folder: &Path) {
        let mut own = Module::default();
        for item in items {
            match item {
                Item::Struct(item) => {
                    own.types.insert(item.ident.to_string(), Definition::Struct(item));
                }
                Item::Enum(item) => {
                    own.types.insert(item.ident.to_string(), Definition::Enum(item));
                }
                Item::Use(item) => read_use(&item.tree, &mut Vec::new(), &mut own),
                Item::Mod(item) => self.read_module(module, item, folder),
                _ => {}
            }
        }
        self.modules.insert(module.to_owned(), own);
    }

    fn read_module(&mut self, parent: &str, item: syn::ItemMod, folder: &Path) {
        let name = item.ident.to_string();
        let path = format!("{parent}::{name}");
        let inner = folder.join(&name);
        if let Some((_, items)) = item.content {
            return self.read_items(&path, items, &inner);
        }
        let beside = folder.join(format!("{name}.rs"));
        let within = inner.join("mod.rs");
        // A file that is neither is one of a `#[path]` attribute, for tests.
        for file in [beside, within] {
            if file.is_file() {
                return self.read_file(&path, &file, &inner);
            }
        }
    }

    /// Finds the type that a path in `module` names: its module and its definition.
    pub(crate) fn find(&self, module: &str, path: &[String]) -> Option<(String, &Definition)> {
        let (name, qualifier) = path.split_last()?;
        if qualifier.is_empty() {
            return self.item(module, name, MAX_STEPS);
        }
        let within = self.module(module, qualifier, MAX_STEPS)?;
        self.item(&within, name, MAX_STEPS)
    }

    fn item(&self, module: &str, name: &str, steps: usize) -> Option<(String, &Definition)> {
        let steps = steps.checked_sub(1)?;
        let here = self.modules.get(module)?;
        if let Some(found) = here.types.get(name) {
            return Some((module.to_owned(), found));
        }
        if let Some(path) = here.uses.get(name) {
            let (last, qualifier) = path.split_last()?;
            let within = self.module(module, qualifier, steps)?;
            return self.item(&within, last, steps);
        }
        here.globs.iter().find_map(|path| self.item(&self.module(module, path, steps)?, name, steps))
    }

    /// Follows the segments of a path to a module.
    fn module(&self, from: &str, path: &[String], steps: usize) -> Option<String> {
        let steps = steps.checked_sub(1)?;
        let mut at = from.to_owned();
        for (index, segment) in path.iter().enumerate() {
            at = match segment.as_str() {
                "self" => at,
                "super" => at.rsplit_once("::")?.0.to_owned(),
                "crate" => from.split("::").next()?.to_owned(),
                name => {
                    let child = format!("{at}::{name}");
                    if self.modules.contains_key(&child) {
                        child
                    } else if let Some(used) = self.modules.get(&at)?.uses.get(name) {
                        self.module(&at, used, steps)?
                    } else if index == 0 && self.modules.contains_key(name) {
                        name.to_owned()
                    } else {
                        return None;
                    }
                }
            };
        }
        Some(at)
    }
}

fn read_use(tree: &UseTree, path: &mut Vec<String>, own: &mut Module) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            read_use(&inner.tree, path, own);
            path.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            if let Some(last) = path.last() {
                own.uses.insert(last.clone(), path.clone());
            }
        }
        UseTree::Name(name) => {
            let full = path.iter().cloned().chain([name.ident.to_string()]).collect();
            own.uses.insert(name.ident.to_string(), full);
        }
        UseTree::Rename(rename) => {
            let full = path.iter().cloned().chain([rename.ident.to_string()]).collect();
            own.uses.insert(rename.rename.to_string(), full);
        }
        UseTree::Glob(_) => own.globs.push(path.clone()),
        UseTree::Group(group) => {
            for tree in &group.items {
                read_use(tree, path, own);
            }
        }
    }
}
