//! Options: what they carry, and how an answer to one looks. "Option types" and "Option reply types".

use super::REPLY_MAGIC;

/// Takes numbers and strings off the front of an option. `None`: the option is shorter than it says.
#[derive(Clone, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*first))
    }

    /// A length of four bytes, and as many bytes.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(string)
    }

    /// Is nothing left?
    #[must_use]
    pub fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// What `INFO` and `GO` carry.
#[derive(Debug, PartialEq, Eq)]
pub struct Go<'a> {
    /// The export's name.
    pub name: &'a [u8],
    /// The pieces of information that are asked for: [`super::info`], or numbers that we do not know.
    pub wanted: Vec<u16>,
}

impl<'a> Go<'a> {
    /// `None` where the lengths contradict each other.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let name = fields.string()?;
        let count = fields.u16()?;
        // The iterator ends at the first number that is not there.
        let wanted = (0..count).map(|_| fields.u16()).collect::<Option<_>>()?;
        fields.end().map(|()| Self { name, wanted })
    }
}

/// What `LIST_META_CONTEXT` and `SET_META_CONTEXT` carry.
#[derive(Debug, PartialEq, Eq)]
pub struct MetaContext<'a> {
    /// The export's name.
    pub name: &'a [u8],
    /// The contexts asked for, by name or by name space.
    pub queries: Vec<&'a [u8]>,
}

impl<'a> MetaContext<'a> {
    /// `None` where the lengths contradict each other.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let name = fields.string()?;
        let count = fields.u32()?;
        // The iterator ends at the first query that is not there, long before a made-up count is reached.
        let queries = (0..count).map(|_| fields.string()).collect::<Option<_>>()?;
        fields.end().map(|()| Self { name, queries })
    }

    /// Is `context` meant? To list, no query means everything, and a name space with its colon all that is in it; to set,
    /// names are exact.
    #[must_use]
    pub fn wants(&self, context: &[u8], listing: bool) -> bool {
        let all = listing && self.queries.is_empty();
        let means = |query: &&[u8]| {
            *query == context || (listing && query.ends_with(b":") && context.starts_with(query))
        };
        all || self.queries.iter().any(means)
    }
}

/// Appends an answer to `option`. Answers are far shorter than 4 GiB: names and texts are bounded where they are made.
pub fn answer(out: &mut Vec<u8>, option: u32, kind: u32, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    out.extend(REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| out.extend(*part));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(strings: &[&[u8]]) -> Vec<u8> {
        let parts = strings.iter().map(|s| [&u32::try_from(s.len()).unwrap().to_be_bytes()[..], s].concat());
        parts.collect::<Vec<_>>().concat()
    }

    #[test]
    fn go_takes_exactly_the_numbers_it_announces() {
        let mut payload = strings(&[b"p1"]);
        payload.extend([0, 2, 0, 3, 0x12, 0x34]);
        assert_eq!(Go::parse(&payload), Some(Go { name: b"p1", wanted: vec![3, 0x1234] }));
        payload.push(0);
        assert_eq!(Go::parse(&payload), None);
        payload.truncate(payload.len() - 2);
        assert_eq!(Go::parse(&payload), None);
    }

    #[test]
    fn a_name_space_is_a_query_where_contexts_are_listed_only() {
        let payload = [strings(&[b""]), vec![0, 0, 0, 1], strings(&[b"qemu:"])].concat();
        let query = MetaContext::parse(&payload).unwrap();
        assert!(query.wants(super::super::ALLOCATION_DEPTH, true));
        assert!(!query.wants(super::super::ALLOCATION_DEPTH, false));
        assert!(!query.wants(super::super::ALLOCATION, true));
    }
}
