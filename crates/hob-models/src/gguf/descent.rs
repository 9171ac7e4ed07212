//! What a model file says of what it was made of, so that a copy of it is known as one that was made.

use super::metadata::{Metadata, wrong};
use super::{GgufError, Rewrite, Value};
use crate::{ModelName, Sha256};

/// The source's name at that time.
const NAME_KEY: &str = "hob.source.name";
/// The digests of the source and of what that was made of in turn, the nearest first, parted by blanks.
const DIGESTS_KEY: &str = "hob.source.sha256";
/// Most digests; nobody shrinks a model as often.
const GENERATIONS_MAX: usize = 64;

/// The model that a model was made of, as its file has it. Nobody vouches for it: who edits a file can take
/// it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descent {
    /// The source's name, at that time.
    pub source: ModelName,
    /// The source's digest.
    pub source_sha256: Sha256,
    /// The digests of what that was made of in turn, the nearest first.
    pub further_sha256: Vec<Sha256>,
}

impl Descent {
    /// Writes it into the metadata of a new file, in place of what its source says of itself.
    pub fn write(&self, rewrite: &mut Rewrite) {
        let digests = std::iter::once(&self.source_sha256).chain(&self.further_sha256);
        let digests: Vec<String> = digests
            .take(GENERATIONS_MAX)
            .map(Sha256::to_string)
            .collect();
        rewrite.set(NAME_KEY, Value::Text(self.source.to_string()));
        rewrite.set(DIGESTS_KEY, Value::Text(digests.join(" ")));
    }

    /// What the metadata says; `None` of a model that was not made by hob.
    pub(super) fn read(metadata: &Metadata) -> Result<Option<Self>, GgufError> {
        let (name, digests) = match (metadata.text(NAME_KEY)?, metadata.text(DIGESTS_KEY)?) {
            (None, None) => return Ok(None),
            (Some(name), Some(digests)) => (name, digests),
            (None, Some(_)) => return Err(wrong(NAME_KEY, "there, but the digest is")),
            (Some(_), None) => return Err(wrong(DIGESTS_KEY, "there, but the name is")),
        };
        let source = ModelName::new(name).map_err(|_| wrong(NAME_KEY, "a model's name"))?;
        let digests = digests.split(' ').map(str::parse);
        let digests: Result<Vec<Sha256>, _> = digests.take(GENERATIONS_MAX).collect();
        let mut digests = digests
            .map_err(|_| wrong(DIGESTS_KEY, "a list of digests"))?
            .into_iter();
        let source_sha256 = digests
            .next()
            .ok_or_else(|| wrong(DIGESTS_KEY, "a list of digests"))?;
        Ok(Some(Self {
            source,
            source_sha256,
            further_sha256: digests.collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::io::Cursor;

    use super::*;
    use crate::gguf::sample::Sample;
    use crate::gguf::{Document, Header};

    fn header(sample: &Sample) -> Result<Header, GgufError> {
        let bytes = sample.bytes();
        let size = bytes.len() as u64;
        Header::read(Cursor::new(bytes), size)
    }

    fn descent(generations: u8) -> Descent {
        let digest = |at: u8| format!("{at:02x}").repeat(32).parse().unwrap();
        Descent {
            source: ModelName::new("large").unwrap(),
            source_sha256: digest(0),
            further_sha256: (1..generations).map(digest).collect(),
        }
    }

    #[test]
    fn a_file_tells_what_it_was_made_of() {
        let bytes = Sample::tiny().bytes();
        let size = bytes.len() as u64;
        assert_eq!(header(&Sample::tiny()).unwrap().descent, None);
        let document = Document::read(Cursor::new(&bytes), size).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("source");
        std::fs::write(&path, &bytes).unwrap();
        let source = std::fs::File::open(path).unwrap();
        let mut rewrite = Rewrite::of(&document);
        // The nearest one counts, and as many before it as are told.
        for generations in [1, 2, 200] {
            descent(generations).write(&mut rewrite);
            let mut made = Vec::new();
            let written = rewrite.write(&source, |piece| {
                made.extend(piece);
                Ok::<_, ()>(())
            });
            written.unwrap();
            let size = made.len() as u64;
            let found = Header::read(Cursor::new(made), size).unwrap().descent;
            assert_eq!(found, Some(descent(generations.min(64))));
        }
    }

    #[test]
    fn what_is_no_descent_is_refused() {
        let digest = "00".repeat(32);
        let with = |name: &str, digests: &str| {
            header(
                &Sample::tiny()
                    .text(NAME_KEY, name)
                    .text(DIGESTS_KEY, digests),
            )
        };
        assert!(with("large", &digest).is_ok());
        for (name, digests) in [
            ("", digest.as_str()),
            ("../large", &digest),
            ("large", ""),
            ("large", "00"),
            ("large", &format!("{digest}  {digest}")),
        ] {
            let error = with(name, digests).unwrap_err();
            assert!(matches!(error, GgufError::WrongValue { .. }), "{error}");
        }
        assert!(header(&Sample::tiny().text(NAME_KEY, "large")).is_err());
        assert!(header(&Sample::tiny().text(DIGESTS_KEY, &digest)).is_err());
        assert!(header(&Sample::tiny().u32(NAME_KEY, 1)).is_err());
    }
}
