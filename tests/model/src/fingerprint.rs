//! Fingerprints of states: 128 bits, which make two states out of a hundred million collide with a chance below 1e-22;
//! and the set of those that were seen.
//!
//! Invariants:
//! - The same state has the same fingerprint in every run.
//! - A fingerprint is kept once, beside an id of four bytes: 16 bytes a state and at most 8 for the table.

use std::hash::{Hash, Hasher};

/// The fingerprint of a state.
pub(crate) fn of<S: Hash>(state: &S) -> u128 {
    let mut mixer = Mixer { low: 0x1234_5678_9ABC_DEF1, high: 0x0FED_CBA9_8765_4321 };
    state.hash(&mut mixer);
    (u128::from(mixer.high) << 64) | u128::from(mixer.low)
}

/// Two independent multiply-and-fold lanes.
struct Mixer {
    low: u64,
    high: u64,
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.low
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 60));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.low = fold(self.low ^ value, 0x9E37_79B9_7F4A_7C15).wrapping_add(0xA5A5_5A5A_1234_9877);
        self.high = fold(self.high.rotate_left(23) ^ value.wrapping_mul(0xC2B2_AE3D_27D4_EB4F), 0xD6E8_FEB8_6659_FD93)
            .wrapping_add(0x632B_E59B_D9B4_E019);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// The fingerprints that were seen, numbered in the order in which they came.
pub(crate) struct Seen {
    prints: Vec<u128>,
    /// Open addressing: one more than an id, or 0 for a free place. The length is a power of two.
    places: Vec<u32>,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { prints: Vec::new(), places: vec![0; 1 << 12] }
    }

    pub(crate) fn len(&self) -> usize {
        self.prints.len()
    }

    /// The id of the fingerprint, and whether it is new.
    pub(crate) fn insert(&mut self, print: u128) -> (u32, bool) {
        if self.prints.len() * 4 >= self.places.len() * 3 {
            self.grow();
        }
        let place = self.place(print);
        if self.places[place] != 0 {
            return (self.places[place] - 1, false);
        }
        let id = u32::try_from(self.prints.len()).expect("exploration is capped below four thousand million states");
        self.prints.push(print);
        self.places[place] = id + 1;
        (id, true)
    }

    /// Where the fingerprint is, or would be.
    fn place(&self, print: u128) -> usize {
        let mask = self.places.len() - 1;
        let mut place = print as usize & mask;
        while let Some(id) = self.places[place].checked_sub(1) {
            if self.prints[id as usize] == print {
                break;
            }
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        self.places = vec![0; self.places.len() * 2];
        for id in 0..self.prints.len() {
            let place = self.place(self.prints[id]);
            self.places[place] = id as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, of};

    #[test]
    fn states_that_differ_have_different_fingerprints() {
        let mut seen = Seen::new();
        for a in 0..300_u16 {
            for b in 0..300_u16 {
                assert!(seen.insert(of(&(a, [b as u8, (b >> 8) as u8], Some(a ^ b)))).1, "{a} {b}");
            }
        }
        assert_eq!(seen.len(), 90_000);
    }

    #[test]
    fn a_state_that_was_seen_keeps_its_number() {
        let mut seen = Seen::new();
        let ids: Vec<u32> = (0..20_000_u32).map(|state| seen.insert(of(&state)).0).collect();
        assert_eq!(ids, (0..20_000).collect::<Vec<u32>>());
        assert!((0..20_000_u32).all(|state| seen.insert(of(&state)) == (state, false)));
    }
}
