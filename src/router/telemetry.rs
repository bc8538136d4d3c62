//! Telemetry tokens and who a datagram is from.
//!
//! A token is eight random bytes, known here only, so a wrong one costs one hash look-up (keyed, so nobody can aim
//! at one bucket) and nothing else. It ends with its time, with its object's rights, or when eight newer ones exist;
//! not with the TCP session that it came with.

use std::net::IpAddr;
use std::time::Instant;

use super::{Count, Effects, Fact, Presence, RestoredToken, Router, Tag, TakenTelemetry, Timer};
use crate::wire::{Datagram, Token, Transmission, Uid};

/// A valid token.
#[derive(Debug, Clone, Copy)]
pub struct TokenEntry {
    uid: Uid,
    expires: Instant,
}

impl Router {
    /// Says whose telemetry this is, or why it is dropped; both are counted.
    pub fn telemetry(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        source: IpAddr,
    ) -> Result<TakenTelemetry, Count> {
        let judged = self.judge_telemetry(now, datagram, source);
        self.counts.add(judged.map_or_else(|count| count, |_| Count::TelemetryTaken));
        judged
    }

    /// Whose token this is, as long as it is valid.
    pub fn object_of(&self, now: Instant, token: Token) -> Option<Uid> {
        self.tokens.get(&token).filter(|entry| now < entry.expires).map(|entry| entry.uid)
    }

    fn judge_telemetry(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
        source: IpAddr,
    ) -> Result<TakenTelemetry, Count> {
        if !self.settings.telemetry_allow_from.allows(source) {
            return Err(Count::TelemetryWrongSource);
        }
        let uid = self.object_of(now, datagram.token).ok_or(Count::TelemetryWrongToken)?;
        let rights = Self::rights(&self.access, &self.settings, self.probe.as_deref(), uid);
        let (name, group) = rights.ok_or(Count::TelemetryNotAllowed)?;
        if !group.telemetry {
            return Err(Count::TelemetryNotAllowed);
        }
        if !group.allow_from.allows(source) {
            return Err(Count::TelemetryWrongSource);
        }
        Self::takes_payload(group, datagram.payload)?;
        if group.rate != 0
            && let Some(peer) = self.peers.get_mut(&uid)
            && !Self::within_rate(&mut peer.allowance, group.rate, now)
        {
            return Err(Count::RateExceeded);
        }
        Ok(TakenTelemetry { uid, group: name })
    }

    /// Gives a connected object a fresh token, if its group may send telemetry.
    pub(super) fn issue_token(&mut self, now: Instant, uid: Uid, effects: &mut impl Effects) {
        let Some(ttl) =
            self.group(uid).filter(|(_, group)| group.telemetry).map(|(_, group)| group.token_ttl)
        else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&uid) else { return };
        let Presence::Live { connection, .. } = peer.presence else { return };
        let token = effects.fresh_token();
        let expires = now + ttl;
        let renewal = now + ttl * 3 / 4;
        if let Some(earlier) = peer.renewal.replace(renewal) {
            self.timers.remove(earlier, Timer::TokenRenewal(uid));
        }
        self.timers.add(renewal, Timer::TokenRenewal(uid));
        self.insert_token(RestoredToken { uid, token, expires });
        effects.remember(Fact::TokenIssued { uid, token, expires });
        effects.reply(connection, Tag::Token, Transmission::Token(token));
    }

    /// Three quarters of the newest token's life are over.
    pub(super) fn renew_token(&mut self, now: Instant, uid: Uid, effects: &mut impl Effects) {
        if let Some(peer) = self.peers.get_mut(&uid) {
            peer.renewal = None;
        }
        self.issue_token(now, uid, effects);
    }

    /// A token is valid from now on; the oldest makes room.
    pub(super) fn insert_token(&mut self, RestoredToken { uid, token, expires }: RestoredToken) {
        let peer = self.peers.entry(uid).or_default();
        if peer.tokens.is_full()
            && let Some(oldest) = peer.tokens.pop_front()
            && let Some(entry) = self.tokens.remove(&oldest)
        {
            self.timers.remove(entry.expires, Timer::TokenExpiry(oldest));
        }
        // The oldest made room, so there is room.
        let _room = peer.tokens.push_back(token);
        self.tokens.insert(token, TokenEntry { uid, expires });
        self.timers.add(expires, Timer::TokenExpiry(token));
    }

    /// The token stays in its row, as it does in the journal, which keeps the newest and knows no clock: the same
    /// ones make room in both.
    pub(super) fn token_expired(&mut self, token: Token) {
        if let Some(entry) = self.tokens.remove(&token)
            && let Some(peer) = self.peers.get_mut(&entry.uid)
            && !peer.tokens.iter().any(|other| self.tokens.contains_key(other))
        {
            peer.tokens.clear();
            self.forget_if_empty(entry.uid);
        }
    }

    /// Ends all tokens of an object.
    pub(super) fn drop_tokens(&mut self, uid: Uid, effects: &mut impl Effects) {
        let Some(peer) = self.peers.get_mut(&uid) else { return };
        if let Some(renewal) = peer.renewal.take() {
            self.timers.remove(renewal, Timer::TokenRenewal(uid));
        }
        if !peer.tokens.is_empty() {
            effects.remember(Fact::TokensEnded { uid });
        }
        while let Some(token) = peer.tokens.pop_front() {
            if let Some(entry) = self.tokens.remove(&token) {
                self.timers.remove(entry.expires, Timer::TokenExpiry(token));
            }
        }
        self.forget_if_empty(uid);
    }
}
