//! XML in images: what is refused before it is given to a parser.
//!
//! The parser compares each attribute of an element with all others of it, and each namespace with all that are in scope:
//! tens of thousands of either would keep it busy for minutes, and no real document has more than about ten.

use crate::error::{Error, Result};

/// Attributes of one element.
const MAX_ATTRIBUTES: usize = 256;
/// Declarations of namespaces altogether.
const MAX_NAMESPACES: usize = 256;

/// Refuses what the parser would take too long for. Counts a little too much, in comments and texts, and never too little:
/// no `<` may stand inside of a tag.
///
/// # Errors
/// `Limit` for too many attributes or namespaces.
pub(super) fn bounded(text: &str) -> Result<()> {
    let values = |tag: &str| {
        let quoted = |rest: &&str| rest.trim_start().starts_with(['"', '\'']);
        tag.split('=').skip(1).filter(quoted).count()
    };
    if text.split('<').any(|tag| values(tag) > MAX_ATTRIBUTES) {
        return Err(Error::limit(format!("more than {MAX_ATTRIBUTES} attributes of one element")));
    }
    if text.matches("xmlns").count() > MAX_NAMESPACES {
        return Err(Error::limit(format!("more than {MAX_NAMESPACES} declarations of namespaces")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn attributes_and_namespaces_are_counted() {
        let of = |count: usize, what: &str| format!("<a {}/>", what.repeat(count));
        assert!(bounded(&of(256, "a = '' ")).is_ok());
        assert!(bounded(&"<a b='' c=\"\"/>".repeat(10_000)).is_ok());
        assert_eq!(bounded(&of(257, "a = '' ")).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(bounded(&"<a xmlns:b='c'>".repeat(257)).unwrap_err().kind(), ErrorKind::Limit);
    }
}
