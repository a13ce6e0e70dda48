//! SCRAM (RFC 5802), the client's half, without channel binding. Never sends the password.

use sha2::{Digest, Sha256, Sha512};

use super::security::ScramHash;
use crate::base64;

/// More rounds than this are not computed: a server could keep us busy for ever.
const ITERATIONS_MAX: u32 = 1_000_000;

/// One conversation.
pub(super) struct Scram {
    hash: ScramHash,
    password: String,
    nonce: String,
    first_bare: String,
    /// What the server must prove at the end.
    expected: Vec<u8>,
}

impl Scram {
    pub(super) fn new(hash: ScramHash, user: &str, password: &str) -> Self {
        Self::with_nonce(hash, user, password, &nonce())
    }

    /// With a nonce of the caller's: for tests.
    pub(super) fn with_nonce(hash: ScramHash, user: &str, password: &str, nonce: &str) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        Scram { hash, password: password.to_owned(), nonce: nonce.to_owned(), first_bare, expected: Vec::new() }
    }

    /// The first message.
    pub(super) fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare).into_bytes()
    }

    /// The last message, after the server's first one.
    pub(super) fn last(&mut self, server: &[u8]) -> Result<Vec<u8>, String> {
        let bad = || "its SCRAM message makes no sense".to_owned();
        let server = std::str::from_utf8(server).map_err(|_| bad())?;
        let field = |name: &str| server.split(',').find_map(|f| f.strip_prefix(name));
        let (nonce, salt) = (field("r=").ok_or_else(bad)?, field("s=").ok_or_else(bad)?);
        let iterations: u32 = field("i=").and_then(|i| i.parse().ok()).ok_or_else(bad)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its SCRAM nonce does not continue ours".to_owned());
        }
        if iterations == 0 || iterations > ITERATIONS_MAX {
            return Err(format!("it asks for {iterations} rounds of SCRAM"));
        }
        let salt = base64::decode(salt.as_bytes()).ok_or_else(bad)?;
        let salted = self.salted(&salt, iterations);
        let client_key = self.hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{server},{without_proof}", self.first_bare);
        let signature = self.hmac(&self.digest(&client_key), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.expected = self.hmac(&self.hmac(&salted, b"Server Key"), message.as_bytes());
        let mut out = format!("{without_proof},p=");
        base64::encode(&proof, &mut out);
        Ok(out.into_bytes())
    }

    /// Checks that the server knows the password too.
    pub(super) fn verify(&self, server: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(server);
        let proof = text.split(',').find_map(|f| f.strip_prefix("v=")).and_then(|v| base64::decode(v.as_bytes()));
        match proof {
            Some(proof) if proof == self.expected => Ok(()),
            _ => Err("it could not prove that it knows the password".to_owned()),
        }
    }

    fn salted(&self, salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut round = self.hmac(self.password.as_bytes(), &[salt, &1u32.to_be_bytes()].concat());
        let mut sum = round.clone();
        for _ in 1..iterations {
            round = self.hmac(self.password.as_bytes(), &round);
            sum.iter_mut().zip(&round).for_each(|(s, r)| *s ^= r);
        }
        sum
    }

    fn digest(&self, bytes: &[u8]) -> Vec<u8> {
        match self.hash {
            ScramHash::Sha256 => Sha256::digest(bytes).to_vec(),
            ScramHash::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(&self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let block = match self.hash {
            ScramHash::Sha256 => 64,
            ScramHash::Sha512 => 128,
        };
        let mut padded = if key.len() > block { self.digest(key) } else { key.to_vec() };
        padded.resize(block, 0);
        let inner: Vec<u8> = padded.iter().map(|b| b ^ 0x36).chain(message.iter().copied()).collect();
        let outer: Vec<u8> = padded.iter().map(|b| b ^ 0x5c).chain(self.digest(&inner)).collect();
        self.digest(&outer)
    }
}

/// Letters that nobody can foresee.
fn nonce() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The keys of each state come from the system's random numbers.
    (0..3).map(|_| format!("{:016x}", RandomState::new().build_hasher().finish())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversation of RFC 7677.
    #[test]
    fn the_example_of_the_standard() {
        let mut scram = Scram::with_nonce(ScramHash::Sha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = scram.last(server).expect("a good message");
        assert_eq!(
            String::from_utf8_lossy(&last),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect("the server's proof");
        assert!(scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G0=").is_err());
        assert!(scram.verify(b"e=invalid-proof").is_err());
    }

    #[test]
    fn a_server_that_does_not_continue_the_nonce_or_asks_too_much_is_refused() {
        let mut scram = Scram::with_nonce(ScramHash::Sha512, "a,b=c", "p", "abc");
        assert_eq!(scram.first(), b"n,,n=a=2Cb=3Dc,r=abc");
        for bad in
            ["r=abc,s=AAAA,i=4096", "r=xyz1,s=AAAA,i=4096", "r=abcd,s=AAAA,i=2000000000", "r=abcd,s=AAAA", "", "\u{1}"]
        {
            assert!(scram.last(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
