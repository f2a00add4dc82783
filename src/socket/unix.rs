//! The names of Unix domain sockets: paths in the file system, and on Linux abstract names, which begin with a NUL.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::ListenOptions;

/// Returns the address of a path. The system would truncate a path at a NUL, and generate a name for an empty one.
pub(super) fn address(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    let wrong = match bytes.iter().position(|byte| *byte == 0) {
        _ if bytes.is_empty() => "expected a path, got an empty one",
        Some(0) if !cfg!(any(target_os = "android", target_os = "linux")) => {
            "expected a path, got an abstract name, which only Linux has"
        }
        Some(1..) if bytes[0] != 0 => "expected a path without NUL, got one with a NUL",
        _ => return SockAddr::unix(path),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, wrong))
}

/// Returns the path or abstract name of an address; `None` if it has no name.
pub(super) fn path(addr: &SockAddr) -> Option<PathBuf> {
    if let Some(path) = addr.as_pathname() {
        return Some(path.to_owned());
    }
    let name = addr.as_abstract_namespace()?;
    let bytes = [b"\0", name].concat();
    Some(std::ffi::OsString::from_vec(bytes).into())
}

/// Binds a socket to a path. Peers cannot connect before it listens, so the file never has wider permissions than
/// requested.
pub(super) fn bind(
    socket: &Socket,
    path: &Path,
    options: &ListenOptions,
) -> io::Result<Option<SocketFile>> {
    let addr = address(path)?;
    if let Some(mode) = options.socket_file_mode.filter(|mode| *mode > 0o7777) {
        let message = format!("expected socket_file_mode to be at most 0o7777, got {mode:#o}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    match socket.bind(&addr) {
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && options.replace_stale_socket
                && is_stale(path, &addr) =>
        {
            fs::remove_file(path)?;
            socket.bind(&addr)?;
        }
        result => result?,
    }
    if addr.as_pathname().is_none() {
        return Ok(None);
    }
    let file = SocketFile::at(path)?;
    if let Some(mode) = options.socket_file_mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(Some(file))
}

/// Returns `true` if a path is the socket of a server that has ended: it refuses connections.
fn is_stale(path: &Path, addr: &SockAddr) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let is_refused = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(addr)
    };
    is_socket && is_refused().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a socket that was bound here. It is removed on drop, unless it was replaced by another file. The socket
/// has to outlive this value: while it lives, no other file has its inode.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        // The current directory may be different when the file is removed.
        let path = std::path::absolute(path)?;
        let file = fs::symlink_metadata(&path)?;
        Ok(Self {
            path,
            device: file.dev(),
            inode: file.ino(),
        })
    }

    /// Drops the value without removing the file.
    pub(crate) fn keep(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |file: fs::Metadata| (file.dev(), file.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
