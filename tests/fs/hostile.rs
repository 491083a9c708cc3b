//! Damaged file systems of every kind end in errors, and soon.
