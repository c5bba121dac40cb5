//! Prints the API reference of the book, `docs/src/api.md`, from the descriptors: `make docs-api` writes it, and
//! `tests/reference.rs` holds it against them.

use std::fmt::Write as _;

use culvert_proto::descriptor_pool;
use prost_reflect::prost_types::{FileDescriptorProto, source_code_info::Location};
use prost_reflect::{
    EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage as _, ServiceDescriptor, Value,
};

const PACKAGE: &str = "culvert.v1";

#[allow(dead_code, reason = "a test takes the text alone")]
fn main() -> Result<(), std::fmt::Error> {
    use std::io::Write as _;
    let text = text()?;
    // A reader that has gone away is no failure.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

/// The whole page.
pub(crate) fn text() -> Result<String, std::fmt::Error> {
    let mut page = String::from(
        "# API reference\n\n\
         <!-- Made from proto/culvert/v1 by `make docs-api`. -->\n\n\
         The gRPC services of the package `culvert.v1`, as `proto/culvert/v1` describes them. The server has reflection, so\n\
         `grpcurl` and the like know all of this too. JSON and YAML have the names in `camelCase`.\n",
    );
    let mut files: Vec<_> = descriptor_pool().files().filter(|file| file.package_name() == PACKAGE).collect();
    files.sort_by_key(|file| (file.services().len() == 0, file.name().to_owned()));
    for file in &files {
        for service in file.services() {
            of_service(&mut page, file, &service)?;
        }
        for message in file.messages() {
            of_message(&mut page, file, &message)?;
        }
        for values in file.enums() {
            of_enum(&mut page, file, &values)?;
        }
    }
    Ok(page)
}

fn of_service(page: &mut String, file: &FileDescriptor, service: &ServiceDescriptor) -> std::fmt::Result {
    write!(page, "\n## {}\n\n{}", service.name(), paragraphs(&comment(file, service.path())))?;
    for method in service.methods() {
        let stream = |is: bool| if is { "stream of " } else { "" };
        write!(
            page,
            "\n### {}\n\n`{}` → {}`{}`{}\n\n{}",
            method.name(),
            method.input().name(),
            stream(method.is_server_streaming()),
            method.output().name(),
            asked(&method),
            paragraphs(&comment(file, method.path())),
        )?;
    }
    Ok(())
}

/// What a method asks of its caller, by its option `access`.
fn asked(method: &MethodDescriptor) -> String {
    let options = method.options();
    let access = options.extensions().find(|(extension, _)| extension.name() == "access");
    let Some((_, Value::Message(access))) = access else { return String::new() };
    let word = |field: &str| match access.get_field_by_name(field).as_deref() {
        Some(Value::EnumNumber(number)) => access
            .descriptor()
            .get_field_by_name(field)
            .and_then(|field| {
                field.kind().as_enum()?.get_value(*number).map(|value| value.name().to_lowercase())
            })
            .unwrap_or_default(),
        _ => String::new(),
    };
    format!(", for role **{}**, scope **{}**", word("role"), word("scope"))
}

fn of_message(page: &mut String, file: &FileDescriptor, message: &MessageDescriptor) -> std::fmt::Result {
    write!(page, "\n## {}\n\n{}", message.name(), paragraphs(&comment(file, message.path())))?;
    if message.fields().len() > 0 {
        page.push_str("\n| field | type | |\n|---|---|---|\n");
    }
    for field in message.fields() {
        let description = comment(file, field.path()).replace('\n', " ").replace('|', "\\|");
        writeln!(page, "| `{}` | {} | {} |", field.name(), kind(&field), description.trim())?;
    }
    for inner in message.child_messages().filter(|inner| !inner.is_map_entry()) {
        of_message(page, file, &inner)?;
    }
    for inner in message.child_enums() {
        of_enum(page, file, &inner)?;
    }
    Ok(())
}

fn of_enum(page: &mut String, file: &FileDescriptor, values: &EnumDescriptor) -> std::fmt::Result {
    write!(page, "\n## {}\n\n{}", values.name(), paragraphs(&comment(file, values.path())))?;
    page.push_str("\n| value | |\n|---|---|\n");
    for value in values.values().filter(|value| !value.name().ends_with("_UNSPECIFIED")) {
        let description = comment(file, value.path()).replace('\n', " ").replace('|', "\\|");
        writeln!(page, "| `{}` | {} |", value.name(), description.trim())?;
    }
    Ok(())
}

/// The type of a field, with a link to what is described on this page.
fn kind(field: &FieldDescriptor) -> String {
    let link = |package: &str, name: &str, full: &str| {
        if package == PACKAGE { format!("[{name}](#{})", name.to_lowercase()) } else { format!("`{full}`") }
    };
    let of = match field.kind() {
        Kind::Message(of) => link(of.package_name(), of.name(), of.full_name()),
        Kind::Enum(of) => link(of.package_name(), of.name(), of.full_name()),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let inner = |field: FieldDescriptor| kind(&field);
            format!(
                "map of {} to {}",
                inner(entry.map_entry_key_field()),
                inner(entry.map_entry_value_field())
            )
        }
        _ if field.is_list() => format!("list of {of}"),
        _ => of,
    }
}

/// The comment in front of what is at `path` in its file.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let proto: &FileDescriptorProto = file.file_descriptor_proto();
    let located = |location: &&Location| location.path == path;
    let found = proto.source_code_info.as_ref().and_then(|info| info.location.iter().find(located));
    let text = found.and_then(|location| location.leading_comments.clone()).unwrap_or_default();
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn paragraphs(text: &str) -> String {
    // Angle brackets would be HTML.
    if text.is_empty() { String::new() } else { format!("{}\n", text.replace('<', "&lt;")) }
}
