//! The OpenAPI document: generated from the handlers, with the problems of [`Kind`] and the WebSocket added here.

use std::fmt::Write;

use utoipa::OpenApi as _;
use utoipa::openapi::path::{HttpMethod, OperationBuilder};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, RefOr, Required, ResponseBuilder};

use super::error::{Kind, MEDIA_TYPE, ProblemDocument};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Mailroom", license(name = "Apache-2.0 OR MIT")),
    paths(
        super::server::get, super::domains::list,
        super::mailboxes::create, super::mailboxes::list, super::mailboxes::get, super::mailboxes::change,
        super::mailboxes::delete,
        super::messages::list, super::messages::list_all, super::messages::get, super::messages::change,
        super::messages::delete, super::messages::delete_all, super::messages::delete_everything,
        super::wait::one, super::wait::all,
        super::parts::html, super::parts::raw, super::parts::attachment,
        super::events::one, super::events::all,
    ),
    components(schemas(ProblemDocument)),
    security(("token" = [])),
    tags(
        (name = "server", description = "This server"),
        (name = "domains", description = "Where mail is accepted"),
        (name = "mailboxes", description = "Make, look at, extend, delete"),
        (name = "messages", description = "List, search, read, wait, delete"),
        (name = "parts", description = "The source, the page, the attachments"),
        (name = "events", description = "What happens, as it happens"),
    ),
)]
struct Generated;

const ABOUT: &str = "Times are RFC 3339 in UTC, sizes are bytes. Lists are `{items, next_cursor, cursor}`, newest first: give \
`next_cursor` as `page` for the next page, and `cursor` as `since` to events or `wait` to miss nothing. Unknown fields and \
parameters are errors.\n\nWith `[mailboxes] access = \"open\"` no token is needed. With `\"token\"`, send the one that \
`POST /v1/mailboxes` answered as `Authorization: Bearer …`, or as `?token=` on html, raw, attachments and events. \
The page that html gives refers to its pictures by a key in place of the token, which opens nothing but the attachments of that \
message, for an hour.\n\n\
Errors are `application/problem+json` (RFC 9457):\n\n| type | status | meaning |\n|---|---|---|\n";

const SOCKET: &str = "A WebSocket (RFC 6455). Send `{\"type\":\"subscribe\",\"mailbox\":\"a@b.c\",\"token\":\"…\",\"since\":\"<cursor>\",\
\"q\":\"…\"}`: `\"mailbox\":\"*\"` is all that the caller may read, `since` first brings what was missed, `q` filters; a second one \
for the same mailbox replaces the first. Send `{\"type\":\"unsubscribe\",\"mailbox\":\"…\"}` to stop.\n\nThe server sends \
`subscribed` (with the current cursor), `message.received` (`message` is the summary), `message.updated`, `message.deleted` \
(`id`, `uid`), `messages.expired` (`through_uid`: it and all older ones are gone), `mailbox.deleted`, `reset` (the cursor cannot be \
continued: list again) and `error`. All but errors have `mailbox` and `cursor`. Delivery is at least once, in the mailbox's order, and \
complete: drop repeats by (mailbox, id). What a token opened ends with that mailbox: `mailbox.deleted`, then the error \
`no-such-mailbox`.";

/// The whole document.
#[must_use]
pub fn document() -> OpenApi {
    let mut document = Generated::openapi();
    let mut about = ABOUT.to_owned();
    for kind in Kind::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(
            about,
            "| `urn:mailroom:problem:{}` | {} | {} |",
            kind.name(),
            kind.status().as_u16(),
            kind.title()
        );
    }
    document.info.description = Some(about);
    document.info.version = env!("CARGO_PKG_VERSION").to_owned();
    if let Some(components) = document.components.as_mut() {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A mailbox token")).build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
    optional_body(&mut document, "/v1/mailboxes");
    document.paths.add_path_operation("/v1/ws", vec![HttpMethod::Get], socket());
    for item in document.paths.paths.values_mut() {
        complete(item);
    }
    document
}

/// The derive macro calls every body required; this POST does as well without one.
fn optional_body(document: &mut OpenApi, path: &str) {
    let post = document.paths.paths.get_mut(path).and_then(|item| item.post.as_mut());
    if let Some(RefOr::T(body)) = post.and_then(|post| post.request_body.as_mut()) {
        body.required = Some(Required::False);
    }
}

fn socket() -> utoipa::openapi::path::Operation {
    let switching = ResponseBuilder::new().description("The connection is a WebSocket now").build();
    OperationBuilder::new()
        .tag("events")
        .operation_id(Some("socket"))
        .summary(Some("Follow mailboxes over a WebSocket."))
        .description(Some(SOCKET))
        .response("101", switching)
        .build()
}

/// Handlers of one name differ by their tag; whatever else goes wrong is a problem document, on every call.
fn complete(item: &mut PathItem) {
    let methods = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
    for operation in methods.into_iter().flatten() {
        let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
        operation.operation_id = operation.operation_id.take().map(|name| format!("{tag}_{name}"));
        let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let problem = ResponseBuilder::new().description("A problem").content(MEDIA_TYPE, content).build();
        operation.responses.responses.insert("default".to_owned(), RefOr::T(problem));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let json = serde_json::to_value(document()).unwrap();
        let text = json.to_string();
        let mut count = 0;
        for reference in text.split("\"$ref\":\"").skip(1) {
            let pointer = reference.split('"').next().unwrap().trim_start_matches('#');
            assert!(json.pointer(pointer).is_some(), "{pointer}");
            count += 1;
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn a_mailbox_is_made_without_a_body_too() {
        let json = serde_json::to_value(document()).unwrap();
        let body = |path: &str, method: &str| json["paths"][path][method]["requestBody"].clone();
        assert_eq!(body("/v1/mailboxes", "post")["required"], false);
        assert!(body("/v1/mailboxes", "post")["content"]["application/json"].is_object());
    }

    #[test]
    fn every_problem_is_listed() {
        let about = document().info.description.unwrap();
        for kind in Kind::ALL {
            assert!(about.contains(&format!("problem:{}`", kind.name())), "{kind:?}");
        }
    }

    #[test]
    fn problems_of_sockets_are_in_the_table_with_the_same_status() {
        for socket in crate::sockets::frame::Kind::ALL {
            let listed = Kind::ALL.iter().find(|kind| kind.name() == socket.name());
            assert_eq!(listed.map(|kind| kind.status().as_u16()), Some(socket.status()), "{}", socket.name());
        }
    }

    #[test]
    fn every_call_has_a_name_of_its_own_and_a_summary() {
        let json = serde_json::to_value(document()).unwrap();
        let mut names = std::collections::HashSet::new();
        for (path, item) in json["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap_or_default();
                assert!(names.insert(id.to_owned()), "{method} {path}: {id}");
                assert!(operation["summary"].is_string(), "{method} {path}");
            }
        }
    }
}
