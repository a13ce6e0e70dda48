//! Keys of map state as bytes whose order is the keys' order. The encoding lies in checkpoints and is frozen.

/// A key of a [`super::MapState`]: bytes compare as keys do.
pub trait MapKey: Sized + Send + 'static {
    /// Appends the key. The bytes must tell where the key ends when another follows.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes a key from the front of `bytes`; `None` when malformed.
    fn take(bytes: &mut &[u8]) -> Option<Self>;
    /// The key that fills `bytes`; `None` when malformed.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::take(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }
}

macro_rules! integers {
    ($($unsigned:ty, $signed:ty;)*) => {$(
        impl MapKey for $unsigned {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (head, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(<$unsigned>::from_be_bytes(*head))
            }
        }
        impl MapKey for $signed {
            fn encode(&self, out: &mut Vec<u8>) {
                // The sign bit is flipped so that negative numbers come first.
                ((*self as $unsigned) ^ (1 << (<$unsigned>::BITS - 1))).encode(out);
            }
            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some((<$unsigned>::take(bytes)? ^ (1 << (<$unsigned>::BITS - 1))) as $signed)
            }
        }
    )*};
}

integers! { u8, i8; u16, i16; u32, i32; u64, i64; u128, i128; }

impl MapKey for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        match u8::take(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl MapKey for Vec<u8> {
    /// Zero bytes become `00 FF`, the end is `00 00`.
    fn encode(&self, out: &mut Vec<u8>) {
        for &b in self {
            out.push(b);
            if b == 0 {
                out.push(0xff);
            }
        }
        out.extend_from_slice(&[0, 0]);
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut key = Vec::new();
        loop {
            let (&b, rest) = bytes.split_first()?;
            *bytes = rest;
            if b != 0 {
                key.push(b);
                continue;
            }
            let (&mark, rest) = bytes.split_first()?;
            *bytes = rest;
            match mark {
                0 => return Some(key),
                0xff => key.push(0),
                _ => return None,
            }
        }
    }
}

impl MapKey for String {
    fn encode(&self, out: &mut Vec<u8>) {
        for &b in self.as_bytes() {
            out.push(b);
            if b == 0 {
                out.push(0xff);
            }
        }
        out.extend_from_slice(&[0, 0]);
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        String::from_utf8(Vec::take(bytes)?).ok()
    }
}

impl<A: MapKey, B: MapKey> MapKey for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::take(bytes)?, B::take(bytes)?))
    }
}
