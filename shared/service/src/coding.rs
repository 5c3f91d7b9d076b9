//! What compressed a body on its way: `Content-Encoding` of a request.
//!
//! A body is proved as it came, and decompressed once it is proved. So nobody makes spanhook
//! decompress anything who has no secret, and who has one is bound by the limit of the body.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use flate2::read::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_ENCODING};

use crate::intake::IntakeError;

/// What is taken, as a header says it.
pub const ACCEPTED: &str = "gzip, zstd";

/// The largest window of a zstd frame, as a power of two: 8 MiB, which every decoder of HTTP takes.
///
/// <https://www.rfc-editor.org/rfc/rfc9659>
const ZSTD_WINDOW: u32 = 23;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    #[default]
    Identity,
    /// <https://www.rfc-editor.org/rfc/rfc9110#name-gzip-coding>
    Gzip,
    /// <https://www.rfc-editor.org/rfc/rfc8878>
    Zstd,
}

impl Coding {
    /// What the headers say. Several codings one on top of the other are none that anybody sends.
    pub fn of(headers: &HeaderMap) -> Result<Self, IntakeError> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return if headers.contains_key(CONTENT_ENCODING) {
                Err(IntakeError::Encoding)
            } else {
                Ok(Self::Identity)
            };
        };
        match value.to_str().map(|it| it.trim().to_ascii_lowercase()).as_deref() {
            Ok("" | "identity") => Ok(Self::Identity),
            Ok("gzip" | "x-gzip") => Ok(Self::Gzip),
            Ok("zstd") => Ok(Self::Zstd),
            _ => Err(IntakeError::Encoding),
        }
    }

    /// The body as it was before, of at most `limit` bytes.
    pub(crate) fn decode(self, body: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, IntakeError> {
        let decoded = match self {
            Self::Identity => return Ok(Cow::Borrowed(body)),
            Self::Gzip => bounded(MultiGzDecoder::new(body), limit),
            Self::Zstd => zstd(body).and_then(|decoder| bounded(decoder, limit)),
        };
        let decoded = decoded.map_err(|_| IntakeError::NotEncoded)?;
        if decoded.len() > limit { Err(IntakeError::TooLarge) } else { Ok(decoded.into()) }
    }
}

fn zstd(body: &[u8]) -> io::Result<impl Read> {
    let mut decoder = zstd::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW)?;
    Ok(decoder)
}

/// One byte more than the limit says that it is passed; no more than that is ever held.
fn bounded(decoder: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        ::zstd::bulk::compress(body, 3).unwrap()
    }

    #[test]
    fn the_header_says_how_a_body_is_compressed() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
            }
            Coding::of(&headers)
        };
        for (values, coding) in [
            (&[][..], Coding::Identity),
            (&[""], Coding::Identity),
            (&["Identity"], Coding::Identity),
            (&["gzip"], Coding::Gzip),
            (&[" GZIP "], Coding::Gzip),
            (&["x-gzip"], Coding::Gzip),
            (&["zstd"], Coding::Zstd),
        ] {
            assert_eq!(of(values), Ok(coding), "{values:?}");
        }
        for values in [&["br"][..], &["deflate"], &["gzip, zstd"], &["gzip", "gzip"], &["gz ip"]] {
            assert_eq!(of(values), Err(IntakeError::Encoding), "{values:?}");
        }
    }

    /// 30 MB of zeros in 30 KB, which is what an attack looks like.
    #[test]
    fn a_body_that_grows_past_its_limit_is_given_up() {
        let zeros = vec![0; 30_000_000];
        for (coding, packed) in [(Coding::Gzip, gzip(&zeros)), (Coding::Zstd, zstd(&zeros))] {
            assert!(packed.len() < 31_000, "{coding:?}: {} bytes", packed.len());
            assert_eq!(coding.decode(&packed, 1_000_000), Err(IntakeError::TooLarge));
            assert_eq!(coding.decode(&packed, 29_999_999), Err(IntakeError::TooLarge));
            assert_eq!(coding.decode(&packed, 30_000_000).unwrap().len(), 30_000_000);
        }
    }

    #[test]
    fn a_window_that_takes_more_memory_than_http_allows_is_refused() {
        let frame = |window: u32| {
            let mut encoder = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window).unwrap();
            encoder.write_all(&[7; 100]).unwrap();
            encoder.finish().unwrap()
        };
        assert!(Coding::Zstd.decode(&frame(ZSTD_WINDOW), 100).is_ok());
        assert_eq!(Coding::Zstd.decode(&frame(ZSTD_WINDOW + 1), 100), Err(IntakeError::NotEncoded));
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_out_again_and_a_part_of_it_never(
            body in prop::collection::vec(any::<u8>(), 1..2000),
            cut in any::<prop::sample::Index>(),
        ) {
            for (coding, packed) in [(Coding::Gzip, gzip(&body)), (Coding::Zstd, zstd(&body))] {
                let whole = coding.decode(&packed, body.len());
                prop_assert_eq!(whole.as_deref(), Ok(&*body));
                let part = &packed[..cut.index(packed.len())];
                let part = coding.decode(part, body.len());
                prop_assert!(part.is_err() || part.unwrap().is_empty());
            }
        }

        #[test]
        fn any_bytes_are_decompressed_or_refused(body: Vec<u8>) {
            let _ = Coding::Gzip.decode(&body, 1000);
            let _ = Coding::Zstd.decode(&body, 1000);
        }
    }
}
