//! Random numbers for names that must not meet: nonces, job ids; never used where a test must be repeatable.

use std::hash::{BuildHasher, Hasher, RandomState};

/// 128 random bits from the operating system (through the keys of a fresh hasher).
pub(super) fn random() -> u128 {
    let half = |salt: u64| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(salt);
        hasher.write_u32(std::process::id());
        u128::from(hasher.finish())
    };
    (half(1) << 64) | half(2)
}
