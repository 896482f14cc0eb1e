//! Activations of a whole text between two blocks: a file without a name, `4 · width` bytes a token, of which only the rows in use are in memory.
//! It is gone when it is dropped and when the process ends, however it ends.

use crate::error::{CheckpointError, Result};
use crate::rows::Rows;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Rows of activations on disk.
#[derive(Debug)]
pub struct Stream {
    file: File,
    /// Where the file lies, for errors.
    folder: PathBuf,
    width: usize,
}

impl Stream {
    /// An empty stream of rows of `width` elements, in a file in `folder`.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn new(folder: &Path, width: usize) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(CheckpointError::io(folder))?;
        Ok(Stream { file, folder: folder.into(), width })
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows `range`, which were written before.
    ///
    /// # Errors
    /// They were not; the file system refuses.
    pub fn read(&self, range: Range<usize>) -> Result<Rows> {
        let mut out = Rows::zeros(range.len(), self.width);
        let bytes = bytemuck::cast_slice_mut(&mut out.data);
        self.file.read_exact_at(bytes, self.offset(range.start)).map_err(CheckpointError::io(&self.folder))?;
        Ok(out)
    }

    /// Writes rows from row `first` on.
    ///
    /// # Errors
    /// Rows of another width; the file system refuses, a full disk for one.
    pub fn write(&self, first: usize, rows: &Rows) -> Result<()> {
        if rows.width != self.width {
            return Err(CheckpointError::Text(format!("rows of {} elements in a stream of {}", rows.width, self.width)));
        }
        self.file.write_all_at(bytemuck::cast_slice(&rows.data), self.offset(first)).map_err(CheckpointError::io(&self.folder))
    }

    fn offset(&self, row: usize) -> u64 {
        (row * self.width * size_of::<f32>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_what_was_not_written_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let stream = Stream::new(dir.path(), 3).unwrap();
        let rows = |from: usize, count: usize| Rows { width: 3, data: (from * 3..(from + count) * 3).map(|v| v as f32).collect() };
        stream.write(2, &rows(2, 4)).unwrap();
        stream.write(0, &rows(0, 2)).unwrap();
        assert_eq!(stream.read(0..6).unwrap(), rows(0, 6));
        assert_eq!(stream.read(3..5).unwrap(), rows(3, 2));
        stream.write(1, &rows(9, 1)).unwrap();
        assert_eq!(stream.read(1..2).unwrap(), rows(9, 1));
        assert!(stream.read(5..7).is_err() && stream.write(0, &Rows::zeros(1, 2)).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        assert!(Stream::new(&dir.path().join("none"), 3).is_err());
    }
}
