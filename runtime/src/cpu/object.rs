//! Loading of an artifact's shared object from memory.

use crate::RuntimeError;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, FromRawFd},
    path::Path,
};

/// A kernel of the shared object; see [`icd_core::manifest::Step::Native`] for its contract.
pub(super) type Kernel = unsafe extern "C" fn(*const *mut u8, *mut u8, u64, u64);

/// A loaded shared object.
pub(super) struct Object {
    library: Library,
    name: String,
    /// Kept open, and closed only after `library`: the dynamic loader takes a second object of the same path, here a descriptor's number,
    /// for the first.
    _file: Option<File>,
}

impl Object {
    /// Loads the bytes of a shared object: through an anonymous memory file, or where the system forbids to execute those, a private
    /// temporary file that is removed at once. Its code is trusted like that of any program.
    pub(super) fn load(name: &str, bytes: &[u8]) -> Result<Self, RuntimeError> {
        let fail = |what: String| RuntimeError::Load { object: name.into(), what };
        if !bytes.starts_with(b"\x7fELF") {
            return Err(fail("it is not an ELF file; compile the model again".into()));
        }
        let in_memory = memory_file(bytes).map_err(|e| format!("memory file: {e}")).and_then(|file| {
            let library = open(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))?;
            Ok((library, Some(file)))
        });
        let (library, file) = match in_memory {
            Ok(loaded) => loaded,
            Err(first) => (on_disk(bytes).map_err(|second| fail(format!("{first}; then from a temporary file: {second}")))?, None),
        };
        Ok(Object { library, name: name.into(), _file: file })
    }

    /// The kernel of a symbol.
    pub(super) fn kernel(&self, symbol: &str) -> Result<Kernel, RuntimeError> {
        // SAFETY: the symbols that a schedule names are compiled with this signature; that is the contract of the artifact format.
        let found = unsafe { self.library.get::<Kernel>(symbol.as_bytes()) };
        found.map(|kernel| *kernel).map_err(|_| RuntimeError::Symbol { object: self.name.clone(), symbol: symbol.into() })
    }
}

fn memory_file(bytes: &[u8]) -> io::Result<File> {
    // SAFETY: the name is a C string; the call has no other precondition.
    let fd = unsafe { libc::memfd_create(c"icd-object".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else owns it.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes)?;
    Ok(file)
}

fn on_disk(bytes: &[u8]) -> Result<Library, String> {
    let mut file = tempfile::Builder::new().prefix("icd-").suffix(".so").tempfile().map_err(|e| e.to_string())?;
    file.write_all(bytes).map_err(|e| e.to_string())?;
    open(file.path())
}

fn open(path: &Path) -> Result<Library, String> {
    // SAFETY: initializers of the object run now. It is the artifact's code, which the user asked to run.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(|e| e.to_string())
}
