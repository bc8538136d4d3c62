//! A connection's bytes: however they are cut, the same is heard, said and objected to.

use std::time::{Duration, Instant};

use iotsocketd::session::{Event, Role, Session, Settings};
use iotsocketd::wire::{Challenge, PROOF_LEN, Transmission};

const SETTINGS: Settings = Settings {
    tls_required: false,
    handshake_timeout: Duration::from_secs(10),
    ping_interval: Duration::from_secs(60),
};

/// Where the bytes begin.
const STARTS: [Option<Role>; 3] = [None, Some(Role::Object), Some(Role::Central)];

/// The bytes of a connection from its first on, and of a session of either role.
pub fn session(data: &[u8]) {
    for start in STARTS {
        let whole = transcript(start, data, |_| usize::MAX);
        let uneven = |at: usize| 1 + usize::from(data[at]) % 40;
        for cut in [transcript(start, data, |_| 1), transcript(start, data, uneven)] {
            assert_eq!(cut.heard, whole.heard);
            // What is wrong may be seen only when a whole piece of a transmission is there.
            assert!(cut.violation.is_none() || cut.violation == whole.violation);
        }
    }
}

/// Everything that came of some bytes.
#[derive(Debug, Default)]
struct Transcript {
    /// What was heard, and what there was to say to it.
    heard: Vec<u8>,
    violation: Option<&'static str>,
}

/// Everything that came of the bytes, given in pieces of so many from each place on.
fn transcript(start: Option<Role>, data: &[u8], len_at: impl Fn(usize) -> usize) -> Transcript {
    let now = Instant::now();
    let mut session = Session::new(now, SETTINGS);
    let mut transcript = Transcript::default();
    if start.is_some() {
        let opening = [[0x01, 0, 0, 0].as_slice(), &[0; PROOF_LEN]].concat();
        feed(&mut session, now, &opening, start, &mut transcript).expect("a right opening");
        assert!(session.is_live());
    }
    let mut at = 0;
    while at < data.len() {
        let end = at.saturating_add(len_at(at)).min(data.len());
        if feed(&mut session, now, &data[at..end], start, &mut transcript).is_none() {
            // Nothing is heard after the end.
            let mut rest = data;
            assert_eq!(session.receive(now, &mut rest), Ok(None));
            assert!(session.poll_output().is_none() && !session.is_live());
            break;
        }
        at = end;
    }
    transcript
}

fn feed(
    session: &mut Session,
    now: Instant,
    mut input: &[u8],
    role: Option<Role>,
    transcript: &mut Transcript,
) -> Option<()> {
    let heard = &mut transcript.heard;
    loop {
        let (mut is_set_up, mut is_proved) = (false, false);
        let event = session.receive(now, &mut input);
        let is_none = matches!(event, Ok(None));
        let has_ended = event.is_err();
        match event {
            Err(end) => transcript.violation = Some(end.0.counter()),
            Ok(None) => {}
            Ok(Some(event)) => match event {
                Event::StartTls | Event::StayPlain => is_set_up = true,
                Event::Proof(proof) => {
                    heard.extend(proof.mac);
                    is_proved = true;
                }
                Event::Ping => heard.push(b'i'),
                Event::Pong => heard.push(b'o'),
                Event::AccessList(items) => heard.extend(items.into_iter().flatten()),
                Event::Close(code) => Transmission::Close(code).encode(heard),
                Event::Request { uid, number, payload } => {
                    Transmission::Request { uid, number, payload }.encode(heard);
                }
                Event::Response { uid, number, code, payload } => {
                    Transmission::Response { uid, number, code, payload }.encode(heard);
                }
            },
        }
        if is_set_up {
            session.established(Challenge([7; 16]));
        }
        if is_proved {
            session.verdict(now, Some(role.unwrap_or(Role::Object)));
        }
        while let Some(output) = session.poll_output() {
            heard.extend(output);
        }
        if has_ended {
            return None;
        }
        if is_none {
            assert!(input.is_empty(), "bytes were left");
            return Some(());
        }
    }
}
