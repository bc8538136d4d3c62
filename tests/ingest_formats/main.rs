//! What the formats of partner networks make of bodies: the documented ones of `tests/fixtures/ingest`, and each
//! peculiarity of a network by itself.
#![cfg(test)]

mod any_network;
mod chirpstack;
mod generic;
mod liveobjects;
mod one_nce;
mod plain;
mod sigfox;
mod soracom;
mod support;
mod thingpark;
mod tts;
