//! Owns how a packed body (gzip, RFC 1952) is unpacked while it comes, in pieces that are worth their handling and of
//! bounded size. Does not own the exchange that brings it. Not the HTTP library's: that gives out 4 KiB at a time, and a
//! page of bulk results is gigabytes.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use crate::{
    error::{Result, SalesforceError},
    transport::Head,
};

/// What a request accepts.
pub(crate) const ACCEPTED: &str = "gzip";
/// Packed bytes that are unpacked at once. Gzip makes a thousandth of its input at best, so that no more than 17 MB come of
/// them, whoever packed them.
const PACKED_BYTES: usize = 16 * 1024;

/// Unpacks one body.
#[derive(Debug)]
pub(crate) struct Unpacker {
    /// None: the body is not packed.
    gzip: Option<Box<MultiGzDecoder<Vec<u8>>>>,
    plain: Bytes,
    has_begun: bool,
}

impl Unpacker {
    /// For a body of which the head of its answer says how it is packed.
    pub(crate) fn of(head: &Head) -> Result<Self> {
        let gzip = match head.text("content-encoding").map(str::trim).unwrap_or_default() {
            "" | "identity" => None,
            "gzip" | "x-gzip" => Some(Box::new(MultiGzDecoder::new(Vec::new()))),
            _ => {
                let reason = "the answer is packed in a way that was not asked for".to_owned();
                return Err(SalesforceError::Unavailable { reason, source: None });
            }
        };
        Ok(Self { gzip, plain: Bytes::new(), has_begun: false })
    }

    /// Takes some of `packed`, and answers with what that brings out: perhaps nothing yet.
    pub(crate) fn unpack(&mut self, packed: &mut Bytes) -> io::Result<&[u8]> {
        self.has_begun |= !packed.is_empty();
        let Some(gzip) = &mut self.gzip else {
            self.plain = std::mem::take(packed);
            return Ok(&self.plain);
        };
        gzip.get_mut().clear();
        gzip.write_all(&packed.split_to(packed.len().min(PACKED_BYTES)))?;
        Ok(gzip.get_ref())
    }

    /// What is left after the last of it. An error when that was not all; but an empty body is one.
    pub(crate) fn finish(&mut self) -> io::Result<&[u8]> {
        match &mut self.gzip {
            Some(gzip) if self.has_begun => {
                gzip.get_mut().clear();
                gzip.try_finish()?;
                Ok(gzip.get_ref())
            }
            _ => Ok(&[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use reqwest::{StatusCode, header::HeaderMap};

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).unwrap();
        gzip.finish().unwrap()
    }

    fn unpacker(encoding: Option<&str>) -> Result<Unpacker> {
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert("content-encoding", encoding.parse().unwrap());
        }
        Unpacker::of(&Head::of(StatusCode::OK, headers))
    }

    /// As it comes in steps of some bytes, with the size of the largest piece.
    fn unpack(encoding: Option<&str>, bytes: &[u8], step: usize) -> io::Result<(Vec<u8>, usize)> {
        let mut unpacker = unpacker(encoding).unwrap();
        let (mut out, mut largest) = (Vec::new(), 0);
        for chunk in bytes.chunks(step) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            while !chunk.is_empty() {
                let plain = unpacker.unpack(&mut chunk)?;
                largest = largest.max(plain.len());
                out.extend_from_slice(plain);
            }
        }
        out.extend_from_slice(unpacker.finish()?);
        Ok((out, largest))
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out_however_it_comes(text in prop::collection::vec(any::<u8>(), 0..3_000), step in 1_usize..400) {
            let twice = [packed(&text), packed(&text)].concat();
            prop_assert_eq!(unpack(Some("gzip"), &packed(&text), step).unwrap().0, text.clone());
            prop_assert_eq!(unpack(Some("gzip"), &twice, step).unwrap().0, text.repeat(2));
            prop_assert_eq!(unpack(None, &text, step).unwrap().0, text);
        }

        #[test]
        fn what_is_cut_off_is_never_whole(text in prop::collection::vec(any::<u8>(), 1..500), step in 1_usize..400, cut in 1_usize..600) {
            let packed = packed(&text);
            let cut = cut.min(packed.len() - 1);
            prop_assert!(unpack(Some("gzip"), &packed[..packed.len() - cut], step).is_err());
        }
    }

    #[test]
    fn what_a_little_unpacks_to_is_bounded() {
        let bomb = packed(&vec![0; 100_000_000]);
        let (out, largest) = unpack(Some("gzip"), &bomb, bomb.len()).unwrap();
        assert_eq!(out.len(), 100_000_000);
        assert!(largest < 18_000_000, "{largest}");
    }

    #[test]
    fn only_what_was_asked_for_is_read() {
        assert!(unpacker(Some("br")).is_err() && unpacker(Some("gzip, gzip")).is_err());
        assert_eq!(unpack(Some("gzip"), &[], 1).unwrap().0, [0_u8; 0], "nothing is nothing");
        assert!(unpack(Some("gzip"), b"Id\n1\n", 2).is_err());
    }
}
