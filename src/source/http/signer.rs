//! The signer: who makes the links to an object where the user gives a name instead of a link, and who understands what its
//! server says when it refuses. There is one for S3.

use crate::error::{Error, Result};
use std::fmt;
use std::time::Duration;

/// A link, which is a secret.
pub(in crate::source) struct Signed {
    pub(in crate::source) url: String,
    /// How long to use it.
    pub(in crate::source) lasts: Duration,
}

/// A status of the server that is neither the bytes nor worth another try.
#[derive(Debug)]
pub(in crate::source) struct Refusal {
    pub(in crate::source) status: u16,
    /// The status in words.
    pub(in crate::source) name: String,
    /// `x-amz-bucket-region`.
    pub(in crate::source) region: Option<String>,
    /// The first bytes of what the server says about it.
    pub(in crate::source) body: Vec<u8>,
    /// With this link there were answers.
    pub(in crate::source) worked: bool,
    /// When the link was made.
    pub(in crate::source) age: Duration,
}

/// What follows from a refusal.
#[derive(Debug)]
pub(in crate::source) enum Verdict {
    /// Another link will do. It is the signer's part that this has an end.
    Fresh,
    /// Nothing will.
    Final(Error),
}

/// Makes links.
pub(in crate::source) trait Signer: Send + Sync + fmt::Debug {
    /// A fresh one.
    fn link(&self) -> Result<Signed>;

    /// What a refusal means.
    fn refused(&self, refusal: &Refusal) -> Verdict;
}
