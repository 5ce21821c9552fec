//! Text out of a rank's bytes: whole characters only, invalid bytes skipped (`protocol.md` 5.3).

/// Turns pieces of one stream into text. A character that is cut by the end of a piece waits for the next piece.
#[derive(Debug, Default)]
pub(super) struct Utf8Decoder {
    /// The beginning of a character; at most 3 bytes.
    pending: Vec<u8>,
}

impl Utf8Decoder {
    /// The text that is complete now. What is left over at the very end of a stream was never a character.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.pending.is_empty() {
            bytes
        } else {
            self.pending.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.pending);
            &joined
        };
        let mut text = String::with_capacity(rest.len());
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    // Valid by the line above; a mistake here would lose text, not crash.
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(invalid) = error.error_len() else {
                        self.pending = after.to_vec();
                        break;
                    };
                    rest = &after[invalid..];
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> String {
        let mut decoder = Utf8Decoder::default();
        pieces.iter().map(|piece| decoder.push(piece)).collect()
    }

    #[test]
    fn text_is_the_same_wherever_it_is_cut() {
        let text = "plain, æøå, 漢字, 🦀🦀 and \u{fffd}\n";
        let bytes = text.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                assert_eq!(decode(&[&bytes[..first], &bytes[first..second], &bytes[second..]]), text);
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&single), text);
    }

    #[test]
    fn no_piece_holds_half_a_character() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.push(b"a\xf0\x9f"), "a");
        assert_eq!(decoder.push(b"\xa6"), "");
        assert_eq!(decoder.push(b"\x80b"), "🦀b");
    }

    #[test]
    fn invalid_bytes_are_skipped_wherever_they_are_cut() {
        let bytes = b"a\xffb\xc3(c\xe2\x82d\xed\xa0\x80e\xc0\xaff\xf8\x88g\x80";
        for cut in 0..=bytes.len() {
            assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]]), "ab(cdefg", "{cut}");
        }
        assert_eq!(decode(&[b"end\xe2\x82"]), "end");
        assert_eq!(decode(&[b"", b""]), "");
    }
}
