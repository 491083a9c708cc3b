//! The machine that a Windows system is made for, from the header of its kernel.

use crate::error::{Error, Result};
use crate::fs::tree::Tree;
use crate::guest::Evidence;
use crate::guest::elf::Machine;
use crate::guest::pe::Program;
use crate::text::{Text, escape};

/// Programs of a system; those of `SysWOW64` are of 32 bits on a 64-bit one and say nothing.
const PROGRAMS: &[&str] = &["ntoskrnl.exe", "ntkrnlpa.exe", "cmd.exe", "winload.exe"];

/// Reads the machine; `None` when no such program is there.
///
/// # Errors
/// When one is there but cannot be read, or is no program.
pub(super) fn read(tree: &Tree, directory: &[u8]) -> Result<Option<Machine>> {
    for name in PROGRAMS {
        let path = [directory, b"/System32/", name.as_bytes()].concat();
        let Some(node) = tree.find(&path)? else { continue };
        let program = Program::read(tree, node).map_err(|error| error.context(escape(&path)))?;
        let program = program
            .ok_or_else(|| Error::unsupported("a program without a PE header").context(escape(&path)))?;
        let name = program.machine;
        let evidence = Evidence::new(format!("a program for {name}")).on(tree.volume(node)).path(&path);
        return Ok(Some(Machine { name: Text::from(name.as_str()), evidence }));
    }
    Ok(None)
}

/// A driver's file, or another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// It is not there.
    Absent,
    /// It is something else than a program.
    Other,
    /// It is for this machine.
    For(String),
}

/// The machine that one program or driver is for.
///
/// # Errors
/// When it is there but cannot be read.
pub(super) fn of_file(tree: &Tree, path: &[u8]) -> Result<File> {
    let read = || -> Result<File> {
        let Some(node) = tree.find(path)? else { return Ok(File::Absent) };
        Ok(Program::read(tree, node)?.map_or(File::Other, |program| File::For(program.machine)))
    };
    read().map_err(|error| error.context(escape(path)))
}
