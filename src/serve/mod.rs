//! The doors that stay open: a file tree over FUSE, the disk over NBD. They see bytes and files, and know no format.

pub mod fuse;
pub mod nbd;
