//! `POST /v1/commands`.

use std::time::Duration;

use super::world::*;

fn body(extra: &str) -> String {
    format!(r#"{{"UID":"echo","Payload":"on","Format":"UTF8"{extra}}}"#)
}

#[test]
fn a_command_is_202_with_its_id_once_it_is_kept() {
    let world = world();
    let answered = world.post("/v1/commands", &body(r#","Deadline":60,"Supersedes":"valve""#));
    assert_eq!(answered.status, 202);
    assert_eq!(answered.body, r#"{"id":"01930a2b-4c5d-7000-8000-000000000000"}"#);
    let taken = world.hub.commands.lock().unwrap();
    let command = taken.first().unwrap();
    assert_eq!((command.payload.as_slice(), command.uid.as_str()), (b"on".as_slice(), "echo"));
    assert_eq!(command.deadline, Some(Duration::from_secs(60)));
    assert_eq!((command.supersedes.as_deref(), command.once), (Some("valve"), None));
}

#[test]
fn refusals_have_their_own_answers() {
    let world = world();
    for (name, status, word) in
        [("conflict", 409, "Idempotency-Key"), ("no room", 503, "commands"), ("payload", 400, "Payload")]
    {
        let answered = world.post("/v1/commands", &body(&format!(r#","Supersedes":"{name}""#)));
        assert!(answered.status == status && answered.error().contains(word), "{name}: {}", answered.body);
        assert_eq!(answered.headers.contains_key("retry-after"), status == 503);
    }
    let unknown = world.post("/v1/commands", &body("").replace("echo", "nobody"));
    assert_eq!(unknown.status, 404);
    assert_eq!(world.get("/v1/commands", CENTRAL).status, 405);
    assert_eq!(world.ask(&post("/v1/commands", "aa11", &body(""))).status, 403, "the right is `request`");
    assert_eq!(world.post("/v1/commands", "[]").status, 400);
    assert!(world.hub.commands.lock().unwrap().len() == 3, "what is refused before is not handed on");
}
