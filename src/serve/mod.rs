//! The doors that stay open: NBD for the disk, FUSE for the files. They see sources and trees, never how those were made.

pub mod nbd;
