//! Who owns a SQLite database, and how a command reaches the owner.
//!
//! One process owns the file: it holds a lock on a file beside it. A server that owns it listens on a Unix socket beside
//! it too; a command that finds the socket sends its [`Command`] there, and one that finds nobody takes the lock itself.
//!
//! Never: two owners at once; a command taken from another user of the machine.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    operator::{self, Answer, Command, Refused},
    services::Services,
};

/// Bytes a command or its answer may have.
const MESSAGE_BYTES_MAX: u64 = 4 << 20;
/// How long a command may take to arrive once its connection is open.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may take to perform it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest path the system takes for a socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The longest file name used for one; a longer one is hashed.
const SOCKET_NAME_BYTES_MAX: usize = 70;

/// Proof that this process owns a SQLite database, until dropped.
///
/// The lock is on a file of its own: SQLite's locks on the database file vanish when any handle to it is closed.
#[derive(Debug)]
pub struct Ownership(#[allow(dead_code, reason = "holds the lock")] File);

impl Ownership {
    /// Takes the database, or says that another process has it (`None`).
    pub fn take(database: &Path) -> io::Result<Option<Self>> {
        // A link that leads to no file yet is followed first: its own path and its target's would be two locks.
        if database.is_symlink() && !database.exists() {
            File::options().create(true).append(true).open(database)?;
        }
        let mut name = resolve(database)?.into_os_string();
        name.push(".lock");
        let file = File::options().create(true).append(true).open(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The database's path, the same however it was named: relative, absolute or by a symbolic link.
fn resolve(database: &Path) -> io::Result<PathBuf> {
    if let Ok(path) = fs::canonicalize(database) {
        return Ok(path);
    }
    let name = database.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the database's path has no file name",
        )
    })?;
    let folder = match database.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = fs::canonicalize(folder).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("the folder {} cannot be used: {error}", folder.display()),
        )
    })?;
    Ok(folder.join(name))
}

/// Where a database's socket is.
struct SocketPlace {
    /// The file.
    path: PathBuf,
    /// What the system is told: the same, or a short way around a path too long for it.
    address: PathBuf,
    /// Keeps that way open.
    _folder: Option<File>,
}

impl SocketPlace {
    fn of(database: &Path) -> io::Result<Self> {
        let database = resolve(database)?;
        let name = database.file_name().unwrap_or_default().as_encoded_bytes();
        let name = if name.len() <= SOCKET_NAME_BYTES_MAX {
            format!("{}.sock", String::from_utf8_lossy(name))
        } else {
            let digest = Sha256::digest(name);
            let hash: String = digest[..12]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{hash}.sock")
        };
        let path = database.with_file_name(&name);
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self {
                address: path.clone(),
                path,
                _folder: None,
            });
        }
        if !cfg!(target_os = "linux") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the database's path is too long for the socket beside it: use a shorter one",
            ));
        }
        use std::os::fd::AsRawFd;
        let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
        Ok(Self {
            address: format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()).into(),
            path,
            _folder: Some(folder),
        })
    }
}

/// The server's end of the socket; removed from the file system when dropped.
pub struct ControlSocket {
    listener: UnixListener,
    place: SocketPlace,
}

impl ControlSocket {
    /// Listens. Whoever owns the database knows that a socket already there was left by a server that died.
    pub fn bind(database: &Path, _owner: &Ownership) -> io::Result<Self> {
        let place = SocketPlace::of(database)?;
        match fs::remove_file(&place.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&place.address)?;
        fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, place })
    }

    /// Performs commands as they come, until told to stop; then takes no more, finishes those that run, and returns.
    pub async fn serve(self, services: Arc<Services>, mut stop: watch::Receiver<bool>) {
        let mut running = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let services = Arc::clone(&services);
                    running.spawn(async move {
                        if let Err(error) = answer_one(stream, &services).await {
                            tracing::warn!(%error, "a command's connection failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the command socket cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            // What has ended is let go of.
            while running.try_join_next().is_some() {}
        }
        running.join_all().await;
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.place.path);
    }
}

async fn answer_one(stream: UnixStream, services: &Services) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != rustix::process::geteuid().as_raw() && peer != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {peer} may not give commands to this server"),
        ));
    }
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(read.take(MESSAGE_BYTES_MAX));
    tokio::time::timeout(COMMAND_TIMEOUT, reader.read_until(b'\n', &mut line)).await??;
    let answer: Answer = match serde_json::from_slice::<Command>(&line) {
        Ok(command) => operator::perform(services, command).await,
        // The line may hold a password or a key: say where it is wrong, not what it holds.
        Err(error) => Err(Refused {
            message: format!(
                "the server does not understand this command (line {}, column {}); are both of the same version?",
                error.line(),
                error.column()
            ),
        }),
    };
    let mut reply = serde_json::to_vec(&answer)?;
    reply.push(b'\n');
    write.write_all(&reply).await
}

/// Sends a command to the server that owns the database; `None` if no server does.
pub async fn ask(database: &Path, command: &Command) -> io::Result<Option<Answer>> {
    let place = SocketPlace::of(database)?;
    let stream = match UnixStream::connect(&place.address).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    let mut reply = Vec::new();
    let mut reader = BufReader::new(read.take(MESSAGE_BYTES_MAX));
    tokio::time::timeout(ANSWER_TIMEOUT, reader.read_until(b'\n', &mut reply))
        .await
        .map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                "the server has not answered for a minute: look whether the command was done",
            )
        })??;
    if reply.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server went away before it answered: look whether the command was done",
        ));
    }
    Ok(Some(serde_json::from_slice(&reply)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_one_owner_however_it_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().join("a.db");
        let owner = Ownership::take(&real)
            .expect("can be taken")
            .expect("is free");
        assert!(Ownership::take(&real).expect("can be tried").is_none());
        fs::write(&real, b"").expect("writes");
        std::os::unix::fs::symlink(&real, folder.path().join("b.db")).expect("links");
        assert!(
            Ownership::take(&folder.path().join("b.db"))
                .expect("can be tried")
                .is_none()
        );
        drop(owner);
        assert!(Ownership::take(&real).expect("can be tried").is_some());
    }

    #[test]
    fn a_link_to_a_database_that_is_not_there_yet_has_one_owner_too() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("real")).expect("creates");
        let (real, link) = (folder.path().join("real/x.db"), folder.path().join("y.db"));
        std::os::unix::fs::symlink(&real, &link).expect("links");
        let _owner = Ownership::take(&link)
            .expect("can be taken")
            .expect("is free");
        for name in [&real, &link] {
            assert!(Ownership::take(name).expect("can be tried").is_none());
        }
    }

    #[tokio::test]
    async fn long_paths_get_a_socket_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let deep = folder.path().join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).expect("creates");
        for name in ["a.db".to_owned(), "n".repeat(120)] {
            let database = deep.join(name);
            let owner = Ownership::take(&database)
                .expect("can be taken")
                .expect("is free");
            let socket = ControlSocket::bind(&database, &owner).expect("binds");
            assert!(socket.place.path.exists());
            let connected =
                UnixStream::connect(&SocketPlace::of(&database).expect("a place").address).await;
            assert!(connected.is_ok());
            let mode = fs::metadata(&socket.place.path)
                .expect("is there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
            let path = socket.place.path.clone();
            drop(socket);
            assert!(!path.exists());
        }
    }
}
