//! As much of DER as it takes to find an RSA key in a SubjectPublicKeyInfo or an X.509 certificate.

/// Tag of an INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of a BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// Tag of an OBJECT IDENTIFIER.
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
/// Tag of a SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// Tag of the version in a certificate.
pub(super) const VERSION: u8 = 0xa0;

/// Reads one element after the other.
#[derive(Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next element, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.peek()? != tag {
            return None;
        }
        let (length, start) = match *self.0.get(1)? {
            short @ 0..=0x7f => (usize::from(short), 2),
            // At most 4 bytes of length: keys and certificates are far smaller.
            long @ 0x81..=0x84 => {
                let count = usize::from(long & 0x7f);
                let length = self.0.get(2..2 + count)?;
                (length.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)), 2 + count)
            }
            _ => return None,
        };
        let content = self.0.get(start..start.checked_add(length)?)?;
        self.0 = &self.0[start + length..];
        Some(content)
    }

    /// The next element's content, to be read further.
    pub(super) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// Passes over the next element, whatever it is.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.take(self.peek()?).map(drop)
    }
}
