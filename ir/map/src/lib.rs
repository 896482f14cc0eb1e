//! Memory-maps whole files for reading: the one unsafe call that lets `icd-core` read weights in place and forbid unsafe code itself.

use memmap2::Mmap;
use std::{fs::File, io};

/// Maps all of `file` for reading, privately. A file of no bytes maps to an empty slice.
///
/// The bytes are those of the file for as long as nobody changes it: a program that truncates a mapped file makes its readers die of
/// `SIGBUS`, as with every mapped library or executable. Writers in this workspace never change a file in place; they write a new one and
/// rename it.
pub fn map_read_only(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is private and read-only, and lives no longer than the returned owner. That nobody truncates or rewrites the file
    // meanwhile is the documented condition above.
    unsafe { Mmap::map(file) }
}
