//! From types to JSON Schema, as serde serialises them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use syn::{Fields, GenericArgument, PathArguments, Type};

use super::attributes::{Serde, capitalised, description, field_name, variant_name};
use super::sources::{Definition, Sources};

/// One form of a JSON object.
#[derive(Clone, Default)]
struct Form {
    properties: Map<String, Value>,
    required: Vec<String>,
    /// Whether other properties are described: `Some(false)` forbids them, `Some(true)` says that there are
    /// some, with any names.
    others: Option<bool>,
}

impl Form {
    fn schema(self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("type".into(), "object".into());
        object.insert("properties".into(), self.properties.into());
        object.insert("required".into(), self.required.into());
        object.extend(self.others.map(|others| ("additionalProperties".to_owned(), others.into())));
        object
    }

    fn add(&mut self, name: String, schema: Value, required: bool) {
        if required {
            self.required.push(name.clone());
        }
        self.properties.insert(name, schema);
    }

    fn join(mut self, other: &Self) -> Self {
        self.others = self.others.or(other.others);
        self.properties.extend(other.properties.clone());
        self.required.extend(other.required.iter().cloned());
        self
    }
}

/// Where a type stands in the sources, with what its parameters stand for.
struct Place<'a> {
    module: String,
    parameters: BTreeMap<String, Value>,
    definition: &'a Definition,
}

/// Makes the schema of one document, collecting the types that it is made of.
pub(crate) struct Schemas<'a> {
    sources: &'a Sources,
    /// Types that do not serialise as they are declared, by the end of their paths.
    special: &'a BTreeMap<&'static str, Value>,
    names: BTreeMap<String, String>,
    taken: BTreeSet<String>,
    definitions: BTreeMap<String, Value>,
}

impl<'a> Schemas<'a> {
    pub(crate) fn new(sources: &'a Sources, special: &'a BTreeMap<&'static str, Value>) -> Self {
        let (names, taken, definitions) = Default::default();
        Self { sources, special, names, taken, definitions }
    }

    /// Returns the schema of the document `thing`: a type, or a list of it as `items`.
    pub(crate) fn document(mut self, thing: &str, path: &str, is_list: bool) -> Value {
        let id = format!("cprecover.dev/{thing}/v1");
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        let mut schema = Map::new();
        schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        schema.insert("$id".into(), format!("https://{id}").into());
        schema.insert("title".into(), id.clone().into());
        let forms = if is_list {
            let item = self.named("cprecover", &path, &[]);
            let mut form = Form::default();
            form.add("items".into(), json!({"type": "array", "items": item}), true);
            vec![form]
        } else {
            let place = self.place("cprecover", &path).expect("a known type");
            schema.extend(
                description(attributes(place.definition)).map(|text| ("description".into(), text.into())),
            );
            self.forms(&place)
        };
        let tagged = |form: Form| {
            let mut first = Form { others: form.others, ..Form::default() };
            first.add("schema".into(), json!({"const": id}), true);
            let mut whole = first.join(&form);
            whole.properties.insert("schema".into(), json!({"const": id}));
            whole.required.dedup();
            whole.schema()
        };
        let mut forms: Vec<_> = forms.into_iter().map(tagged).collect();
        if forms.len() == 1 {
            schema.extend(forms.remove(0));
        } else {
            schema.insert("anyOf".into(), forms.into_iter().map(Value::from).collect());
        }
        schema.insert("$defs".into(), self.definitions.into_iter().collect());
        schema.into()
    }

    fn place(&self, module: &str, path: &[String]) -> Option<Place<'a>> {
        let (module, definition) = self.sources.find(module, path)?;
        Some(Place { module, parameters: BTreeMap::new(), definition })
    }

    /// Returns a reference to a declared type, which it describes once.
    fn named(&mut self, module: &str, path: &[String], arguments: &[Value]) -> Value {
        let last = path.last().expect("a name");
        if let Some(special) = self.special.get(last.as_str()) {
            self.definitions.insert(last.clone(), special.clone());
            return json!({"$ref": format!("#/$defs/{last}")});
        }
        let mut place =
            self.place(module, path).unwrap_or_else(|| panic!("{module}: no type {}", path.join("::")));
        let full = format!("{}::{last} {arguments:?}", place.module);
        if let Some(name) = self.names.get(&full) {
            return json!({"$ref": format!("#/$defs/{name}")});
        }
        let generics = match place.definition {
            Definition::Struct(item) => &item.generics,
            Definition::Enum(item) => &item.generics,
        };
        place.parameters = generics
            .type_params()
            .map(|parameter| parameter.ident.to_string())
            .zip(arguments.iter().cloned())
            .collect();
        let mut name = arguments.iter().fold(last.clone(), |name, argument| name + &label(argument));
        let mut outer = place.module.rsplit("::");
        while !self.taken.insert(name.clone()) {
            name = capitalised(outer.next().expect("another module has a type of this name")) + &name;
        }
        self.names.insert(full, name.clone());
        let schema = self.define(&place);
        self.definitions.insert(name.clone(), schema);
        json!({"$ref": format!("#/$defs/{name}")})
    }

    fn define(&mut self, place: &Place<'a>) -> Value {
        let mut schema = Map::new();
        let attributes = attributes(place.definition);
        schema.extend(description(attributes).map(|text| ("description".into(), text.into())));
        let serde = Serde::of(attributes);
        let shape = match (place.definition, &serde.other) {
            (_, Some(other)) => {
                let other: Type = syn::parse_str(other).expect("a type");
                self.ty(place, &other)
            }
            (Definition::Struct(item), None) => match &item.fields {
                Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                    self.ty(place, &fields.unnamed.first().expect("one").ty)
                }
                Fields::Named(fields) if serde.transparent => {
                    self.ty(place, &fields.named.first().expect("one").ty)
                }
                Fields::Named(_) => {
                    one_of(self.forms(place).into_iter().map(|form| form.schema().into()).collect())
                }
                _ => panic!("{}: the schemas know no such struct {}", place.module, item.ident),
            },
            (Definition::Enum(item), None) => self.choice(place, item, &serde),
        };
        match shape {
            Value::Object(shape) => schema.extend(shape),
            other => panic!("not a schema: {other}"),
        }
        schema.into()
    }

    fn choice(&mut self, place: &Place<'a>, item: &syn::ItemEnum, serde: &Serde) -> Value {
        if serde.tag.is_some() {
            return one_of(self.forms(place).into_iter().map(|form| form.schema().into()).collect());
        }
        let mut names = Vec::new();
        let mut others = Vec::new();
        for variant in &item.variants {
            let own = Serde::of(&variant.attrs);
            if own.skip {
                continue;
            }
            let name = own
                .rename
                .clone()
                .unwrap_or_else(|| variant_name(&variant.ident.to_string(), serde.rename_all.as_deref()));
            let inner = match &variant.fields {
                Fields::Unit if !serde.untagged => {
                    names.push(Value::from(name));
                    continue;
                }
                fields => self.payload(place, fields, serde, &own),
            };
            if serde.untagged {
                others.push(inner);
            } else {
                let mut form = Form { others: Some(false), ..Form::default() };
                form.add(name, inner, true);
                others.push(form.schema().into());
            }
        }
        if !names.is_empty() {
            others.insert(0, json!({"type": "string", "enum": names}));
        }
        one_of(others)
    }

    /// What a variant with fields holds.
    fn payload(&mut self, place: &Place<'a>, fields: &Fields, outer: &Serde, own: &Serde) -> Value {
        match fields {
            Fields::Unit => json!({"type": "null"}),
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                self.ty(place, &fields.unnamed.first().expect("one").ty)
            }
            Fields::Unnamed(fields) => {
                let items: Vec<Value> =
                    fields.unnamed.iter().map(|field| self.ty(place, &field.ty)).collect();
                tuple(&items)
            }
            Fields::Named(_) => {
                let rule = own.rename_all.as_deref().or(outer.rename_all_fields.as_deref());
                one_of(
                    self.fields(place, fields, rule, false)
                        .into_iter()
                        .map(|form| form.schema().into())
                        .collect(),
                )
            }
        }
    }

    /// The forms of the object that a struct or a tagged enum serialises as.
    fn forms(&mut self, place: &Place<'a>) -> Vec<Form> {
        let serde = Serde::of(attributes(place.definition));
        match place.definition {
            Definition::Struct(item) => {
                self.fields(place, &item.fields, serde.rename_all.as_deref(), serde.closed)
            }
            Definition::Enum(item) => {
                let tag = serde.tag.clone().unwrap_or_else(|| panic!("{} is no object", item.ident));
                let mut forms = Vec::new();
                for variant in &item.variants {
                    let own = Serde::of(&variant.attrs);
                    if own.skip {
                        continue;
                    }
                    let name = own.rename.clone().unwrap_or_else(|| {
                        variant_name(&variant.ident.to_string(), serde.rename_all.as_deref())
                    });
                    let mut form = Form::default();
                    let mut kind = Map::from_iter([("const".to_owned(), Value::from(name))]);
                    kind.extend(description(&variant.attrs).map(|text| ("description".into(), text.into())));
                    form.add(tag.clone(), kind.into(), true);
                    forms.extend(self.tagged(place, variant, &serde, &own, form));
                }
                forms
            }
        }
    }

    fn tagged(
        &mut self,
        place: &Place<'a>,
        variant: &syn::Variant,
        serde: &Serde,
        own: &Serde,
        mut form: Form,
    ) -> Vec<Form> {
        if matches!(variant.fields, Fields::Unit) {
            return vec![form];
        }
        if let Some(content) = &serde.content {
            let inner = self.payload(place, &variant.fields, serde, own);
            form.add(content.clone(), inner, true);
            return vec![form];
        }
        let inner = match &variant.fields {
            Fields::Unnamed(fields) => {
                let inner = self.inner(place, &fields.unnamed.first().expect("one").ty);
                self.forms(&inner)
            }
            fields => {
                let rule = own.rename_all.as_deref().or(serde.rename_all_fields.as_deref());
                self.fields(place, fields, rule, false)
            }
        };
        inner.iter().map(|inner| form.clone().join(inner)).collect()
    }

    fn fields(&mut self, place: &Place<'a>, fields: &Fields, rule: Option<&str>, closed: bool) -> Vec<Form> {
        let mut forms = vec![Form { others: closed.then_some(false), ..Form::default() }];
        for field in fields {
            let serde = Serde::of(&field.attrs);
            if serde.skip {
                continue;
            }
            if serde.flatten && is_map(&field.ty) {
                for form in &mut forms {
                    form.others = Some(true);
                }
                continue;
            }
            if serde.flatten {
                let inner = self.inner(place, &field.ty);
                let inner = self.forms(&inner);
                forms = forms
                    .iter()
                    .flat_map(|form| inner.iter().map(|inner| form.clone().join(inner)))
                    .collect();
                continue;
            }
            let name = field.ident.as_ref().expect("a named field").to_string();
            let name = serde.rename.clone().unwrap_or_else(|| field_name(&name, rule));
            let mut schema = match &serde.other {
                Some(with) => self
                    .special
                    .get(with.as_str())
                    .cloned()
                    .unwrap_or_else(|| panic!("no schema for with = {with}")),
                None => self.ty(place, &field.ty),
            };
            if let (Some(text), Some(schema)) = (description(&field.attrs), schema.as_object_mut()) {
                schema.insert("description".into(), text.into());
            }
            for form in &mut forms {
                form.add(name.clone(), schema.clone(), !serde.skip_if);
            }
        }
        forms
    }

    /// The declared type behind a flattened field or a newtype variant.
    fn inner(&self, place: &Place<'a>, ty: &Type) -> Place<'a> {
        let path = match ty {
            Type::Reference(reference) => return self.inner(place, &reference.elem),
            Type::Path(path) => path,
            _ => panic!("{}: a type of another kind is no object", place.module),
        };
        let segment = path.path.segments.last().expect("a name");
        if let (true, PathArguments::AngleBracketed(arguments)) = (segment.ident == "Box", &segment.arguments)
            && let Some(GenericArgument::Type(inner)) = arguments.args.first()
        {
            return self.inner(place, inner);
        }
        let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.place(&place.module, &names)
            .unwrap_or_else(|| panic!("{}: no type {}", place.module, names.join("::")))
    }

    fn ty(&mut self, place: &Place<'a>, ty: &Type) -> Value {
        match ty {
            Type::Reference(reference) => self.ty(place, &reference.elem),
            Type::Slice(slice) => list(&self.ty(place, &slice.elem)),
            Type::Array(array) => list(&self.ty(place, &array.elem)),
            Type::Tuple(types) => {
                let items: Vec<Value> = types.elems.iter().map(|ty| self.ty(place, ty)).collect();
                tuple(&items)
            }
            Type::Path(path) => self.path(place, &path.path),
            _ => panic!("{}: a type that the schemas do not know", place.module),
        }
    }

    fn path(&mut self, place: &Place<'a>, path: &syn::Path) -> Value {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let last = names.last().expect("a name").as_str();
        if let Some(parameter) = place.parameters.get(last) {
            return parameter.clone();
        }
        let mut arguments = Vec::new();
        if let Some(PathArguments::AngleBracketed(given)) =
            path.segments.last().map(|segment| &segment.arguments)
        {
            for argument in &given.args {
                if let GenericArgument::Type(ty) = argument {
                    arguments.push(self.ty(place, ty));
                }
            }
        }
        let is_declared = self.sources.find(&place.module, &names).is_some();
        match (last, arguments.as_slice()) {
            _ if is_declared => self.named(&place.module, &names, &arguments),
            ("String" | "str" | "PathBuf" | "Path" | "IpAddr" | "Ipv4Addr" | "SocketAddr" | "char", _) => {
                json!({"type": "string"})
            }
            ("bool", _) => json!({"type": "boolean"}),
            ("u8", _) => json!({"type": "integer", "minimum": 0, "maximum": u8::MAX}),
            ("u16", _) => json!({"type": "integer", "minimum": 0, "maximum": u16::MAX}),
            ("u32", _) => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            ("u64" | "usize", _) => json!({"type": "integer", "minimum": 0}),
            ("i32" | "i64", _) => json!({"type": "integer"}),
            ("f64" | "f32", _) => json!({"type": "number"}),
            ("NonZeroU16", _) => json!({"type": "integer", "minimum": 1, "maximum": u16::MAX}),
            ("Vec" | "BTreeSet" | "HashSet" | "VecDeque", [item]) => list(item),
            ("Box" | "Arc" | "Rc" | "Cow", [inner]) => inner.clone(),
            ("Option", [inner]) => json!({"anyOf": [inner, {"type": "null"}]}),
            ("BTreeMap" | "HashMap", [_, value]) => json!({"type": "object", "additionalProperties": value}),
            ("Duration", []) => {
                let part = json!({"type": "integer", "minimum": 0});
                json!({"type": "object", "properties": {"secs": part, "nanos": part}, "required": ["secs", "nanos"], "additionalProperties": false})
            }
            // Anything.
            ("Value", []) => json!({}),
            ("Map", [_, _]) => json!({"type": "object"}),
            _ => self.named(&place.module, &names, &arguments),
        }
    }
}

fn is_map(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| ["Map", "BTreeMap", "HashMap"].contains(&last.ident.to_string().as_str())))
}

fn attributes(definition: &Definition) -> &[syn::Attribute] {
    match definition {
        Definition::Struct(item) => &item.attrs,
        Definition::Enum(item) => &item.attrs,
    }
}

fn list(item: &Value) -> Value {
    json!({"type": "array", "items": item})
}

fn tuple(items: &[Value]) -> Value {
    json!({"type": "array", "prefixItems": items, "minItems": items.len(), "maxItems": items.len()})
}

fn one_of(mut schemas: Vec<Value>) -> Value {
    if schemas.len() == 1 { schemas.remove(0) } else { json!({"anyOf": schemas}) }
}

/// What a type argument adds to a definition's name.
fn label(schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return reference.rsplit('/').next().unwrap_or_default().to_owned();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => schema.get("items").map_or("List".into(), label) + "s",
        Some(kind) => capitalised(kind),
        None => "Value".to_owned(),
    }
}
