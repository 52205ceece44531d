//! What a command will run.
//!
//! The question "can it be preloaded" is about the ELF file that ends up in memory, which is often not what was typed:
//! a name is looked up in PATH as `execvp` does, a script is run by its interpreter as the kernel does, and `env` runs
//! what its arguments say. Each step is followed here with the kernel's own limits, so that what is inspected is what
//! runs.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::elf;

use crate::headers::Headers;
use crate::secure::{Caller, SecureReason, secure_reason};
use crate::source::{Source, string_prefix};
use crate::{BinaryError, Class, Machine};

/// The ELF program behind a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file the command names.
    pub command: PathBuf,
    /// Interpreters of scripts on the way, outermost first; empty if the command is an ELF file.
    pub scripts: Vec<PathBuf>,
    /// The ELF file that runs.
    pub path: PathBuf,
    /// 32- or 64-bit.
    pub class: Class,
    /// The processor it is for.
    pub machine: Machine,
    /// How it is linked.
    pub linkage: Linkage,
    /// Why it would start in secure mode, if the current user started it.
    pub secure: Option<SecureReason>,
    /// Its build-id.
    pub build_id: Option<Vec<u8>>,
}

/// How a program gets at its libraries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linkage {
    /// By a dynamic loader.
    Dynamic {
        /// PT_INTERP: the loader's path.
        interpreter: PathBuf,
        /// Whose loader it is.
        libc: Libc,
    },
    /// It has all in itself (position-independent or not).
    Static,
}

/// The C library a dynamic loader belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// GNU.
    Glibc,
    /// musl.
    Musl,
    /// Another (bionic, ...).
    Other,
}

/// Why a command cannot be run. Each is a sentence with its way out.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// No such file.
    #[error("{} does not exist: check the path.", .0.display())]
    NotFound(PathBuf),
    /// A bare name that is in no directory of PATH.
    #[error("no program called {name} is in PATH: give its path, for example ./{name}.", name = .0.display())]
    NotInPath(PathBuf),
    /// A directory.
    #[error("{} is a directory: name the program in it.", .0.display())]
    IsDirectory(PathBuf),
    /// No execute permission.
    #[error("{path} is not executable: run `chmod +x {path}`.", path = .0.display())]
    NotExecutable(PathBuf),
    /// A directory on the way, or the file itself, is closed to this user.
    #[error("permission to read {} is denied: run as a user who may.", .0.display())]
    PermissionDenied(PathBuf),
    /// Neither an ELF file nor a `#!` script.
    #[error("{} is neither a program nor a script that starts with #!: run it by its interpreter.", .0.display())]
    NotAProgram(PathBuf),
    /// The interpreter of a script is missing or itself not runnable.
    #[error("the interpreter of the script {script} cannot be run: {source}", script = script.display())]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// What is wrong with its interpreter.
        source: Box<ProgramError>,
    },
    /// Scripts run by scripts run by scripts.
    #[error("{} is a script whose interpreters are scripts, more than the kernel follows.", .0.display())]
    TooManyScripts(PathBuf),
    /// The dynamic loader it asks for is not installed.
    #[error(
        "{program} asks for the loader {loader}, which does not exist here: install the C library it was built for.",
        program = program.display(), loader = loader.display()
    )]
    NoLoader {
        /// The program.
        program: PathBuf,
        /// Its PT_INTERP.
        loader: PathBuf,
    },
    /// An ELF file that is not a program (an object file, a core dump, a library), or one that is broken.
    #[error("{path} cannot be run: {what}.", path = path.display())]
    NotRunnable {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// Any other failure to read it.
    #[error("cannot read {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The kernel's limit on interpreters that are scripts themselves.
const SCRIPT_DEPTH: usize = 5;
/// The kernel reads this much of a script's first line.
const SCRIPT_LINE: usize = 256;
const LOADER_PATH_LIMIT: u64 = 4096;

impl Program {
    /// What a command (the first word, without arguments) will run: looked up in PATH unless it has a slash.
    pub fn find(command: impl AsRef<OsStr>) -> Result<Self, ProgramError> {
        follow(resolve(command.as_ref())?, SCRIPT_DEPTH)
    }

    /// The ELF file at a path, as a program; no PATH, no scripts. For `/proc/PID/exe` too, whose loader may
    /// be in another container.
    pub fn inspect(path: impl AsRef<Path>) -> Result<Self, ProgramError> {
        let path = path.as_ref();
        let source = Source::open(path).map_err(|error| explain(error, path))?;
        inspect(path, &source)
    }
}

/// Find a command as `execvp` does: the first directory of PATH that has it, executable.
fn resolve(command: &OsStr) -> Result<PathBuf, ProgramError> {
    if command.as_bytes().contains(&b'/') || command.is_empty() {
        let path = PathBuf::from(command);
        return check_runnable(&path).map(|()| path);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut refusal = None;
    for folder in std::env::split_paths(&path) {
        // An empty element of PATH is the current directory.
        let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
        let candidate = folder.join(command);
        match check_runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error @ (ProgramError::NotExecutable(_) | ProgramError::PermissionDenied(_))) => refusal = Some(error),
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or_else(|| ProgramError::NotInPath(PathBuf::from(command))))
}

fn check_runnable(path: &Path) -> Result<(), ProgramError> {
    let metadata = path.metadata().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ProgramError::NotFound(path.to_path_buf()),
        io::ErrorKind::PermissionDenied => ProgramError::PermissionDenied(path.to_path_buf()),
        _ => ProgramError::Io { path: path.to_path_buf(), source },
    })?;
    if metadata.is_dir() {
        return Err(ProgramError::IsDirectory(path.to_path_buf()));
    }
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).map_err(|_| ProgramError::NotExecutable(path.to_path_buf()))
}

/// Follow `#!` lines until an ELF file is reached.
fn follow(path: PathBuf, depth: usize) -> Result<Program, ProgramError> {
    check_runnable(&path)?;
    // Executable but not readable: it would run, unseen.
    let source = Source::open(&path).map_err(|error| explain(error, &path))?;
    let Some((interpreter, argument)) = shebang(&source) else {
        let program = inspect(&path, &source)?;
        return match &program.linkage {
            Linkage::Dynamic { interpreter, .. }
                if Machine::host() == Some(program.machine) && !interpreter.exists() =>
            {
                Err(ProgramError::NoLoader { program: path, loader: interpreter.clone() })
            }
            _ => Ok(program),
        };
    };
    let wrap = |error| ProgramError::Interpreter { script: path.clone(), source: Box::new(error) };
    if depth == 0 {
        return Err(ProgramError::TooManyScripts(path));
    }
    // `#!/usr/bin/env NAME`: env becomes NAME. What runs is NAME, and if it cannot be told, env itself.
    let through_env = match interpreter.file_name() {
        Some(name) if name == "env" => argument.as_deref().and_then(env_command),
        _ => None,
    };
    let next = match &through_env {
        Some(command) => resolve(command),
        None => Ok(interpreter.clone()),
    };
    let inner = next.and_then(|next| follow(next, depth - 1)).map_err(wrap)?;
    let mut scripts = if through_env.is_some() { vec![interpreter] } else { Vec::new() };
    scripts.push(inner.command.clone());
    scripts.extend(inner.scripts.iter().cloned());
    Ok(Program { command: path, scripts, ..inner })
}

/// The interpreter and its one argument from a script's first line.
fn shebang(source: &Source) -> Option<(PathBuf, Option<OsString>)> {
    let mut line = [0; SCRIPT_LINE];
    let length = source.read_kept(0, &mut line);
    let line = line[..length].strip_prefix(b"#!")?;
    let line = line.split(|&byte| byte == b'\n' || byte == 0).next()?.trim_ascii();
    let mut words = line.splitn(2, |byte| matches!(byte, b' ' | b'\t'));
    let interpreter = words.next().filter(|word| !word.is_empty())?;
    let argument = words.next().map(|rest| OsStr::from_bytes(rest.trim_ascii()).to_owned());
    Some((PathBuf::from(OsStr::from_bytes(interpreter)), argument))
}

/// The program that `env ARGUMENT` runs: the first word that is neither an option nor a setting.
fn env_command(argument: &OsStr) -> Option<OsString> {
    let words = argument.as_bytes().split(|byte| byte.is_ascii_whitespace());
    let mut words = words.filter(|word| !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'='));
    words.next().map(|word| OsStr::from_bytes(word).to_owned())
}

fn inspect(path: &Path, source: &Source) -> Result<Program, ProgramError> {
    let headers = Headers::read(source).map_err(|error| explain(error, path))?;
    let not_runnable = |what: &str| ProgramError::NotRunnable { path: path.to_path_buf(), what: what.into() };
    match headers.kind {
        elf::ET_EXEC | elf::ET_DYN => {}
        elf::ET_REL => return Err(not_runnable("it is an object file, not yet linked")),
        elf::ET_CORE => return Err(not_runnable("it is a core dump")),
        _ => return Err(not_runnable("it is an ELF file of an unknown type")),
    }
    let interpreter = headers.programs.iter().find(|program| program.kind == elf::PT_INTERP).map(|interpreter| {
        let length = interpreter.file_bytes.min(LOADER_PATH_LIMIT);
        let bytes = source.table(interpreter.offset, length, "the path of its loader").ok();
        let path = bytes.as_deref().and_then(string_prefix).map(PathBuf::from);
        path.ok_or_else(|| not_runnable("the path of its loader is damaged"))
    });
    let linkage = match interpreter.transpose()? {
        None => Linkage::Static,
        Some(interpreter) => Linkage::Dynamic { libc: Libc::of_loader(&interpreter), interpreter },
    };
    let machine = Machine::of(&headers);
    let metadata = path.metadata().map_err(|source| ProgramError::Io { path: path.to_path_buf(), source })?;
    Ok(Program {
        command: path.to_path_buf(),
        scripts: Vec::new(),
        path: path.to_path_buf(),
        class: headers.class,
        machine,
        linkage,
        secure: secure_reason(path, &metadata, Caller::current()),
        build_id: crate::notes::build_id(source, &headers),
    })
}

impl Libc {
    /// By the loader's file name, which is part of each platform's ABI.
    fn of_loader(loader: &Path) -> Self {
        let name = loader.file_name().unwrap_or_default().as_bytes();
        if name.starts_with(b"ld-musl") {
            Self::Musl
        } else if name.starts_with(b"ld-linux") || name.starts_with(b"ld64.so") || name.starts_with(b"ld.so") {
            Self::Glibc
        } else {
            Self::Other
        }
    }
}

fn explain(error: BinaryError, path: &Path) -> ProgramError {
    let path = path.to_path_buf();
    match error {
        BinaryError::NotElf(_) => ProgramError::NotAProgram(path),
        BinaryError::NotAFile(_) if path.is_dir() => ProgramError::IsDirectory(path),
        BinaryError::NotAFile(_) => {
            ProgramError::NotRunnable { path, what: "it is a device, a pipe or a socket".into() }
        }
        BinaryError::Damaged { what, .. } => ProgramError::NotRunnable { path, what: format!("it is damaged: {what}") },
        BinaryError::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => ProgramError::NotFound(path),
            io::ErrorKind::PermissionDenied => ProgramError::PermissionDenied(path),
            _ => ProgramError::Io { path, source },
        },
    }
}
