//! The page of the console, as any client gets it.

use super::world::*;

fn open(world: &World, method: &str, path: &str) -> Answered {
    world.ask(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

#[test]
fn the_page_needs_no_key_and_lets_nothing_else_in() {
    let world = world();
    let page = open(&world, "GET", "/");
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    let policy = &page.headers["content-security-policy"];
    for part in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(page.headers["referrer-policy"], "no-referrer");
    for part in page.body.split('"').filter(|part| part.starts_with('/')) {
        let file = open(&world, "GET", part);
        assert_eq!((file.status, &file.headers["content-security-policy"]), (200, policy), "{part}");
    }
    assert_eq!(
        open(&world, "GET", "/console/nothing.js").status,
        401,
        "what is not there asks for a key first"
    );
    assert_eq!(world.get("/console/nothing.js", "aa11").status, 404);
}

#[test]
fn the_page_is_only_read_and_only_from_allowed_networks() {
    let world = world();
    let refused = open(&world, "POST", "/");
    assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "GET, HEAD"));
    let mut closed = settings();
    closed.allow_from = networks(&["192.0.2.0/24"]);
    world.api.set_settings(closed);
    assert_eq!(open(&world, "GET", "/").status, 403);
    assert_eq!(open(&world, "GET", "/console/main.js").status, 403);
}
