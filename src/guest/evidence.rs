//! Evidence: the place in an image that a fact was read from, so that a person can go and look.

use crate::text::Text;

/// The most bytes of a file that are shown as an excerpt.
pub const MAX_EXCERPT: usize = 200;

/// One place, and what was seen there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What was seen, in words. Safe to show.
    pub what: String,
    /// The volume's id.
    pub volume: Option<String>,
    /// The path in the guest's tree.
    pub path: Option<Text>,
    /// The line of that file, from 1.
    pub line: Option<u64>,
    /// The byte on the disk, for what stands outside files.
    pub byte: Option<u64>,
    /// The bytes themselves, cut to [`MAX_EXCERPT`].
    pub excerpt: Option<Text>,
}

impl Evidence {
    /// Something seen that has no place of its own.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// Adds the volume.
    #[must_use]
    pub fn on(mut self, volume: impl Into<String>) -> Self {
        self.volume = Some(volume.into());
        self
    }

    /// Adds the path.
    #[must_use]
    pub fn path(mut self, path: &[u8]) -> Self {
        self.path = Some(Text::from(path));
        self
    }

    /// Adds the line with its text.
    #[must_use]
    pub fn line(mut self, line: u64, text: &[u8]) -> Self {
        self.line = Some(line);
        self.excerpt = Some(excerpt(text));
        self
    }

    /// Adds the byte on the disk.
    #[must_use]
    pub fn byte(mut self, byte: u64) -> Self {
        self.byte = Some(byte);
        self
    }
}

/// The start of a line without the white space around it, short enough to show.
#[must_use]
pub fn excerpt(text: &[u8]) -> Text {
    let text = text.trim_ascii();
    Text::from(text.get(..MAX_EXCERPT).unwrap_or(text))
}
