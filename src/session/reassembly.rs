//! Structures out of a stream of bytes that is cut anywhere.

use crate::limits::PARTIAL_KEPT_MAX;
use crate::wire::{ACL_ITEM_LEN, Decoded, Transmission, WireError};

/// Holds the start of a transmission whose rest has not arrived. Whole transmissions pass without being copied.
#[derive(Debug, Default)]
pub struct Reassembly {
    partial: Vec<u8>,
    /// How long `partial` must be before it is worth looking at again.
    needed: usize,
    /// The last transmission borrowed `partial`: it is emptied at the next call.
    used: bool,
}

impl Reassembly {
    /// The next whole transmission; advances `input` behind what it took.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Transmission<'s>>, WireError> {
        if std::mem::take(&mut self.used) {
            self.partial.clear();
            if self.partial.capacity() > PARTIAL_KEPT_MAX {
                self.partial = Vec::new();
            }
        }
        if self.partial.is_empty() {
            if input.is_empty() {
                return Ok(None);
            }
            match Transmission::decode(input)? {
                Decoded::Done(transmission, used) => {
                    *input = input.get(used..).unwrap_or_default();
                    return Ok(Some(transmission));
                }
                Decoded::Need(total) => self.needed = total,
            }
        }
        loop {
            if !fill(&mut self.partial, self.needed, input) {
                return Ok(None);
            }
            match Transmission::decode(&self.partial)? {
                Decoded::Need(total) => self.needed = total,
                Decoded::Done(..) => break,
            }
        }
        // Decoded again because the borrow of the loop's result cannot leave it.
        self.used = true;
        match Transmission::decode(&self.partial)? {
            Decoded::Done(transmission, _) => Ok(Some(transmission)),
            Decoded::Need(_) => Ok(None),
        }
    }
}

/// Moves bytes from `input` until `partial` is `needed` long; whether it is.
pub fn fill(partial: &mut Vec<u8>, needed: usize, input: &mut &[u8]) -> bool {
    let missing = needed.saturating_sub(partial.len());
    let (taken, rest) = input.split_at(missing.min(input.len()));
    partial.extend_from_slice(taken);
    *input = rest;
    partial.len() >= needed
}

/// An access list that is still arriving. Nothing is reserved by the sender's word: it grows as items come.
#[derive(Debug)]
pub struct Staging {
    missing: usize,
    item: Vec<u8>,
    items: Vec<[u8; ACL_ITEM_LEN]>,
}

impl Staging {
    /// A list of which `missing` items are announced.
    pub fn new(missing: usize) -> Self {
        Self { missing, item: Vec::new(), items: Vec::new() }
    }

    /// Takes items from `input`; the whole list once it is there.
    pub fn take(&mut self, input: &mut &[u8]) -> Option<Vec<[u8; ACL_ITEM_LEN]>> {
        while self.missing > 0 && fill(&mut self.item, ACL_ITEM_LEN, input) {
            self.items.extend(self.item.first_chunk().copied());
            self.item.clear();
            self.missing -= 1;
        }
        (self.missing == 0).then(|| std::mem::take(&mut self.items))
    }
}
