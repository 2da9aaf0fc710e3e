//! True input, spoilt by dice: what a fuzzer does, bounded and the same each time. Does not own what reads it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Edits of one input at the most.
const EDITS_MAX: u64 = 6;
/// What parsers stumble over.
const TOKENS: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"\n",
    b"\r\n",
    b",",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xf0\x9f\x92\xa9",
    b"../",
    b"://",
    b"@",
    b"%00",
    b"\\u0000",
    b"9999-12-31T23:59:60.000+9999",
];

/// A generator of its own (splitmix64), so that a seed means the same with every version of every library.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(limit.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

/// One of the examples, edited as `seed` has it. Seed 0 is an example as it is.
#[must_use]
pub fn spoil(examples: &[&str], seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let example = |dice: &mut Dice| examples.get(dice.below(examples.len())).map_or(&b""[..], |text| text.as_bytes());
    let mut bytes = example(&mut dice).to_vec();
    let edits = if seed == 0 { 0 } else { 1 + dice.roll() % EDITS_MAX };
    for _ in 0..edits {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(40)).min(bytes.len());
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes.truncate(at),
            4 => {
                let other = example(&mut dice);
                let from = dice.below(other.len() + 1);
                bytes.splice(at..end, other[from..].iter().copied());
            }
            _ => {
                let token = TOKENS[dice.below(TOKENS.len())];
                bytes.splice(at..if dice.below(2) == 0 { at } else { end }, token.iter().copied());
            }
        }
    }
    bytes
}

/// Gives `run` every example, and `inputs` spoilt ones.
///
/// # Panics
/// When `run` does; says which input it was.
pub fn spoil_each(name: &str, examples: &[&str], inputs: u64, run: impl Fn(&[u8])) {
    let whole = examples.iter().map(|example| example.as_bytes().to_vec());
    for (at, input) in whole.chain((1..=inputs).map(|seed| spoil(examples, seed))).enumerate() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&input))) {
            eprintln!("{name}, input {at}: {:?}", String::from_utf8_lossy(&input));
            resume_unwind(panic);
        }
    }
}
