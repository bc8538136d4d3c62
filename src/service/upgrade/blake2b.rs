//! BLAKE2b with 64 bytes of output and no key (RFC 7693): what minisign signs of a file. Nothing else here needs it.

const BLOCK_LEN: usize = 128;
const ROUNDS: usize = 12;

const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// Which word of a block goes where, by round; the eleventh is the first again.
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// Columns, then diagonals.
const LANES: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

/// What is digested bit by bit.
#[derive(Debug, Clone)]
pub struct Blake2b {
    state: [u64; 8],
    done: u128,
    /// Fewer bytes than two blocks: the last block is not empty unless all is.
    rest: Vec<u8>,
}

impl Blake2b {
    /// Of nothing yet.
    pub fn new() -> Self {
        let mut state = IV;
        // Parameters: one after the other, no key, 64 bytes out.
        state[0] ^= 0x0101_0040;
        Self { state, done: 0, rest: Vec::new() }
    }

    /// The next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut rest = self.rest.as_slice();
        while let Some((block, behind)) =
            rest.split_first_chunk::<BLOCK_LEN>().filter(|(_, behind)| !behind.is_empty())
        {
            self.done += BLOCK_LEN as u128;
            compress(&mut self.state, block, self.done, false);
            rest = behind;
        }
        self.rest = rest.to_vec();
    }

    /// The digest of all.
    pub fn finish(mut self) -> [u8; 64] {
        let mut last = [0; BLOCK_LEN];
        last.iter_mut().zip(&self.rest).for_each(|(to, from)| *to = *from);
        compress(&mut self.state, &last, self.done + self.rest.len() as u128, true);
        let mut digest = [0; 64];
        let words = digest.chunks_exact_mut(8).zip(self.state);
        words.for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
        digest
    }
}

/// The digest of these bytes.
pub fn blake2b(bytes: &[u8]) -> [u8; 64] {
    let mut digested = Blake2b::new();
    digested.add(bytes);
    digested.finish()
}

#[expect(clippy::indexing_slicing, reason = "every index is a constant below 16")]
fn compress(state: &mut [u64; 8], block: &[u8; BLOCK_LEN], done: u128, is_last: bool) {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let mut v = [0; 16];
    v[..8].copy_from_slice(state);
    v[8..].copy_from_slice(&IV);
    v[12] ^= done as u64;
    v[13] ^= (done >> 64) as u64;
    if is_last {
        v[14] = !v[14];
    }
    for round in 0..ROUNDS {
        let order = &SIGMA[round % SIGMA.len()];
        for (lane, pair) in LANES.iter().zip(order.as_chunks::<2>().0) {
            let [a, b, c, d] = *lane;
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[pair[0]]);
            v[d] = (v[d] ^ v[a]).rotate_right(32);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(24);
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[pair[1]]);
            v[d] = (v[d] ^ v[a]).rotate_right(16);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(63);
        }
    }
    for (at, word) in state.iter_mut().enumerate() {
        *word ^= v[at] ^ v[at + 8];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        blake2b(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn digests_are_those_of_the_specification_and_of_b2sum() {
        assert_eq!(
            hex(b"abc"),
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1\
             7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
        );
        assert_eq!(
            hex(b""),
            "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419\
             d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce"
        );
    }

    #[test]
    fn bytes_that_come_in_parts_are_digested_as_one() {
        let bytes: Vec<u8> = (0..1000).map(|at| (at % 251) as u8).collect();
        for part in [1, 127, 128, 129, 256, 999, 1000] {
            let mut digested = Blake2b::new();
            bytes.chunks(part).for_each(|part| digested.add(part));
            assert_eq!(digested.finish(), blake2b(&bytes), "{part} at a time");
        }
    }

    #[test]
    fn every_length_around_a_block_is_as_b2sum_has_it() {
        for len in [1, 127, 128, 129, 255, 256, 257, 1000] {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let mut child = std::process::Command::new("b2sum")
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
            let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
            assert_eq!(said.split(' ').next().unwrap(), hex(&bytes), "{len} bytes");
        }
    }
}
