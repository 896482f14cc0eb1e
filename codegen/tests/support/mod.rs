//! Loading of generated shared objects into the test process.

pub(crate) mod executor;

use libloading::Library;
use std::io::Write;

/// A loaded shared object, with the file that it came from.
pub(crate) struct Native {
    library: Library,
    _file: tempfile::NamedTempFile,
}

impl Native {
    /// Loads the bytes of a shared object.
    pub(crate) fn load(bytes: &[u8]) -> Native {
        let mut file = tempfile::Builder::new().suffix(".so").tempfile().expect("temporary file");
        file.write_all(bytes).expect("writing the object");
        // SAFETY: the object was made by this crate and has no initializers.
        let library = unsafe { Library::new(file.path()) }.expect("loading the object");
        Native { library, _file: file }
    }

    /// Address of a symbol as a function pointer type.
    pub(crate) fn symbol<T: Copy>(&self, name: &str) -> T {
        // SAFETY: callers ask for the type that the generated function has.
        unsafe { *self.library.get::<T>(name.as_bytes()).expect("symbol") }
    }
}
