//! The console page: files that are part of the program. Never anything from elsewhere, and never a token.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::push::problem::Problem;

/// Name, type and text of each file.
const FILES: [(&str, &str, &str); 8] = [
    (PAGE, "text/html", include_str!("../console/index.html")),
    (
        "console.css",
        "text/css",
        include_str!("../console/console.css"),
    ),
    (
        "console.js",
        "text/javascript",
        include_str!("../console/console.js"),
    ),
    (
        "daemon.js",
        "text/javascript",
        include_str!("../console/daemon.js"),
    ),
    (
        "dom.js",
        "text/javascript",
        include_str!("../console/dom.js"),
    ),
    (
        "timeline.js",
        "text/javascript",
        include_str!("../console/timeline.js"),
    ),
    (
        "outboxd.min.js",
        "text/javascript",
        include_str!("../console/outboxd.min.js"),
    ),
    (
        "icon.svg",
        "image/svg+xml",
        include_str!("../console/icon.svg"),
    ),
];
const PAGE: &str = "index.html";

/// Nothing but our own files and answers, and no text that is taken for a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The page.
pub(super) async fn page() -> Result<Response, Problem> {
    give(PAGE)
}

/// What the page is made of.
pub(super) async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    give(&name)
}

fn give(name: &str) -> Result<Response, Problem> {
    let file = FILES.iter().find(|(known, ..)| *known == name);
    let (_, kind, text) = file.ok_or_else(Problem::not_found)?;
    let headers = [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    Ok((headers, *text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_its_scripts_name_only_files_that_there_are() {
        let mut named = 0;
        for (_, _, text) in FILES {
            let of_page = text.split("\"console/").skip(1);
            let of_scripts = text.split("from \"./").skip(1);
            for rest in of_page.chain(of_scripts) {
                let (name, _) = rest.split_once('"').unwrap();
                assert!(FILES.iter().any(|(known, ..)| *known == name), "{name}");
                named += 1;
            }
        }
        assert!(named >= 8, "{named}");
    }

    #[test]
    fn nothing_of_the_page_is_from_elsewhere_or_in_line() {
        let page = include_str!("../console/index.html");
        for forbidden in ["http:", "https:", "style=", "<style", "onclick", "<script>"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
