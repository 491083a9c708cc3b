//! imgmount looks into virtual disk images, read-only.
//!
//! Bytes flow up. Nobody imports upwards; `tests/layering.rs` holds the table.
//!
//! ```text
//!   cli      the command line: one file a verb
//!   ├─ host      mounting, passing descriptors, the two processes
//!   ├─ serve     NBD server, FUSE tree          ├─ check   facts → rules → profile → report
//!   ├─ verify    second opinions                │
//!   stack    opens the whole tower ─────────────┘
//!   guest    what the guest says about itself          measure  a disk's size as QCOW2    pipeline  reading ahead
//!   fs       file systems, and the tree made of them
//!   volume   partitions and what is made of them
//!   image    disk image formats
//!   engine   any layout becomes a readable source
//!   cache    the block cache
//!   source   files, objects, memory; the gate to second files
//!   crypt    what is locked, opened with a key
//!   block    the vocabulary          error  text  num  checksum  galois  budget  ondisk  counters  locator  keys  confined  nbd_protocol
//! ```
//!
//! | to add | write | and one line in |
//! |---|---|---|
//! | a disk image format | `image/x.rs` | [`image::FORMATS`] |
//! | a volume manager | `volume/x.rs` | [`volume::MANAGERS`] |
//! | a file system | `fs/x.rs` | [`fs::FILESYSTEMS`] |
//! | a source | `source/x.rs` | [`source::SCHEMES`] |

/// Declares the members of a list once: `mod x => ITEM;` is the module `x`, and `x::ITEM` in the list. So a new member is
/// one file and one line.
macro_rules! registry {
    ($(#[$meta:meta])* $vis:vis const $list:ident: &[&$kind:ty]; $($scope:vis mod $module:ident => $item:ident;)+) => {
        $($scope mod $module;)+

        $(#[$meta])*
        $vis const $list: &[&$kind] = &[$(&$module::$item),+];
    };
}

pub mod block;
pub mod budget;
pub mod cache;
pub mod check;
pub mod checksum;
pub mod cli;
pub mod confined;
pub mod counters;
pub mod crypt;
pub mod engine;
pub mod error;
pub mod fs;
pub mod galois;
pub mod guest;
pub mod host;
pub mod image;
pub mod keys;
pub mod locator;
pub mod measure;
pub mod nbd_protocol;
pub mod num;
pub mod ondisk;
pub mod pipeline;
pub mod serve;
pub mod source;
pub mod stack;
pub mod text;
#[cfg(feature = "second-opinion")]
pub mod verify;
pub mod volume;
