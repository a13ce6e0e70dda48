//! The versioned little encoding of positions and committables; never guesses: short or foreign bytes are refused.

use flott_core::{Error, Result};

/// Writes fields one after another.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// Starts with a tag of the kind of record and its version.
    pub(crate) fn new(tag: u8, version: u8) -> Self {
        Writer(vec![tag, version])
    }
    pub(crate) fn u64(mut self, n: u64) -> Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }
    pub(crate) fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }
    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields in the order they were written.
pub(crate) struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks tag and version.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8], tag: u8, version: u8) -> Result<Self> {
        match bytes {
            [t, v, rest @ ..] if *t == tag && *v == version => Ok(Reader { what, rest }),
            [t, v, ..] if *t == tag => Err(Error::corrupt(
                "connector.state",
                format!("the {what} in the checkpoint has version {v}, this program reads version {version}"),
            )
            .hint("restore with the program that wrote the checkpoint")),
            _ => Err(Self { what, rest: bytes }.foreign()),
        }
    }
    fn foreign(&self) -> Error {
        Error::corrupt("connector.state", format!("the bytes in the checkpoint are not a {}", self.what))
            .detail(format!("{} bytes are left where a field should begin", self.rest.len()))
            .hint("the checkpoint is of another connector, or damaged")
    }
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or_else(|| self.foreign())?;
        self.rest = rest;
        Ok(head)
    }
    pub(crate) fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?.try_into().expect("eight bytes were taken");
        Ok(u64::from_le_bytes(bytes))
    }
    pub(crate) fn text(&mut self) -> Result<String> {
        let n = usize::try_from(self.u64()?).map_err(|_| self.foreign())?;
        let bytes = self.take(n)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.foreign())
    }
    #[cfg(feature = "jdbc")]
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        let n = usize::try_from(self.u64()?).map_err(|_| self.foreign())?;
        Ok(self.take(n)?.to_vec())
    }
    pub(crate) fn end(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.foreign()) }
    }
}
