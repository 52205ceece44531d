//! The models that advice is given by: trained once, then kept in the user's cache.
//!
//! A model is a function of the table that comes with this version, so what is kept can always be made again, in seconds. That decides
//! everything here: a file that is missing, unreadable, of another table or damaged is trained again and replaced; a cache that
//! cannot be written is done without; nothing of either is an error. What is read is outside data ([`Model::from_json`] checks
//! it), and no more is believed of it than of any file of the user's own: one that others could have written is not read.
//!
//! The file is `$XDG_CACHE_HOME/tierscope/models/FAMILY-KEY.json` (`~/.cache` without the variable), mode 0600 in a directory of
//! mode 0700, moved into its place when it is whole.

use indicatif::ProgressBar;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tierscope_model::advice::Trained;
use tierscope_rank::{Family, Model, Table, shipped_key};

/// More than any model has.
const MOST_BYTES: u64 = 64 << 20;

/// Where models are kept, and what of.
pub(crate) struct Models {
    directory: Option<PathBuf>,
    key: String,
    /// Whether nobody is to be told what takes seconds.
    quiet: bool,
}

impl Models {
    /// Models of the table that comes with this version, in the user's cache.
    pub(crate) fn shipped(quiet: bool) -> Self {
        Self { directory: cache(&|name| std::env::var_os(name).map(PathBuf::from)), key: shipped_key(), quiet }
    }

    /// The model of a family: the one that is kept, or else trained now.
    ///
    /// # Errors
    ///
    /// Why none can be trained, in words.
    pub(crate) fn get(&self, family: Family) -> Result<Trained, String> {
        self.get_from(family, Table::shipped)
    }

    fn get_from<E: std::fmt::Display>(
        &self,
        family: Family,
        table: impl FnOnce() -> Result<Table, E>,
    ) -> Result<Trained, String> {
        let path = self.directory.as_ref().map(|directory| directory.join(format!("{family}-{}.json", self.key)));
        if let Some(model) = path.as_deref().and_then(|path| kept(path, family, &self.key)) {
            return Ok(Trained { model, key: self.key.clone() });
        }
        let table = table().map_err(|error| error.to_string())?;
        let model = {
            let _shown = Shown::new(self.quiet, family);
            Model::train(&table, family).map_err(|error| error.to_string())?
        };
        if let Some(path) = path {
            // What cannot be kept is trained again the next time, and that is all.
            let _ = keep(&path, &model.to_json(&self.key));
        }
        Ok(Trained { model, key: self.key.clone() })
    }
}

/// The directory of models, from the environment. Paths that are not absolute are no cache (XDG Base Directory Specification).
fn cache(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let home = || variable("HOME").filter(absolute).map(|home| home.join(".cache"));
    Some(variable("XDG_CACHE_HOME").filter(absolute).or_else(home)?.join("tierscope/models"))
}

/// The model of a file; `None` for anything that is not exactly that.
fn kept(path: &Path, family: Family, key: &str) -> Option<Model> {
    // A pipe in its place must not be waited for.
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags as i32).open(path).ok()?;
    let found = file.metadata().ok()?;
    let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !found.is_file() || !ours || found.len() > MOST_BYTES {
        return None;
    }
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    Model::from_json(&text, key).ok().filter(|model| model.family() == family)
}

/// Keeps a model, whole or not at all.
fn keep(path: &Path, text: &str) -> std::io::Result<()> {
    let Some(directory) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::Builder::new()
        .prefix(".tierscope-")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// A line on a terminal for as long as it takes.
struct Shown(Option<ProgressBar>);

impl Shown {
    fn new(quiet: bool, family: Family) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_message(format!("training the model of {family} samples, once for this version"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self(bar)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tierscope_rank::TableError;

    const OBJECTS: &str = include_str!("../../../model/data/objects.csv");
    const SETS: &str = include_str!("../../../model/data/sets.csv");

    /// A table that is trained in a moment: four programs of the shipped one, once each.
    fn small() -> Result<Table, TableError> {
        let mut table = Table::parse(OBJECTS, SETS)?;
        let mut cases = Vec::new();
        for program in table.programs().into_iter().take(4) {
            cases.extend(table.rows.iter().map(|row| &row.case).find(|case| case.program == program).cloned());
        }
        table.rows.retain(|row| cases.contains(&row.case));
        table.sets.retain(|set| cases.contains(&set.case));
        Ok(table)
    }

    /// Models of the small table, how often it was asked for, and one that was obtained.
    struct Shelf {
        models: Models,
        asked: Cell<usize>,
    }

    impl Shelf {
        fn new(directory: Option<PathBuf>) -> Self {
            Self { models: Models { directory, key: "0123456789abcdef".into(), quiet: true }, asked: Cell::new(0) }
        }

        fn get(&self) -> Model {
            let table = || {
                self.asked.set(self.asked.get() + 1);
                small()
            };
            self.models.get_from(Family::Clock, table).unwrap().model
        }
    }

    #[test]
    fn a_model_is_trained_once_and_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("cache/models");
        let shelf = Shelf::new(Some(directory.clone()));
        let first = shelf.get();
        assert_eq!((shelf.get() == first, shelf.asked.get()), (true, 1));
        let file = directory.join("clock-0123456789abcdef.json");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file)), (0o700, 0o600));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn what_is_kept_and_wrong_in_any_way_is_trained_again_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Some(folder.path().to_path_buf()));
        let good = shelf.get();
        let file = folder.path().join("clock-0123456789abcdef.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let other = Model::train(&small().unwrap(), Family::Levels).unwrap().to_json("0123456789abcdef");
        let poisons = [
            String::new(),
            "not JSON".into(),
            text[..text.len() / 2].into(),
            text.replace("\"bias\":", "\"bias\":1e400,\"was\":"),
            text.replace("0123456789abcdef", "fedcba9876543210"),
            text.replace("tierscope.rank-model/", "tierscope.rank-model/0"),
            other,
        ];
        for (number, poison) in poisons.iter().enumerate() {
            std::fs::write(&file, poison).unwrap();
            assert!(shelf.get() == good, "poison {number} changed the model");
            assert_eq!(shelf.asked.get(), number + 2, "poison {number} was taken");
            assert!(std::fs::read_to_string(&file).unwrap() == text, "poison {number} stayed");
        }
    }

    #[test]
    fn what_others_could_have_written_or_what_is_no_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Some(folder.path().to_path_buf()));
        let good = shelf.get();
        let file = folder.path().join("clock-0123456789abcdef.json");
        std::fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert!(shelf.get() == good);
        assert_eq!(shelf.asked.get(), 2);
        let elsewhere = folder.path().join("elsewhere");
        std::fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert!(shelf.get() == good);
        assert_eq!(shelf.asked.get(), 3);
        // A directory cannot be replaced by a file, and a pipe must not be waited for.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(shelf.get() == good);
        std::fs::remove_dir(&file).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        assert!(shelf.get() == good);
        assert_eq!(shelf.asked.get(), 5);
    }

    #[test]
    fn where_nothing_can_be_kept_a_model_is_there_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("blocked");
        std::fs::write(&blocked, "a file where a directory should be").unwrap();
        for directory in [None, Some(blocked.join("models"))] {
            let shelf = Shelf::new(directory);
            assert!(shelf.get() == shelf.get());
            assert_eq!(shelf.asked.get(), 2);
        }
    }

    #[test]
    fn what_cannot_be_trained_says_why() {
        let shelf = Shelf::new(None);
        let Err(why) = shelf.models.get_from(Family::Clock, || Ok::<_, TableError>(Table::default())) else {
            panic!("trained on nothing")
        };
        assert!(why.contains("for 0 programs") && why.contains("tierscope label"), "{why}");
    }

    #[test]
    fn the_cache_is_where_the_user_has_it() {
        let of = |cache_home: Option<&str>, home: Option<&str>| {
            cache(&|name| if name == "HOME" { home } else { cache_home }.map(PathBuf::from))
        };
        assert_eq!(of(Some("/c"), Some("/h")), Some("/c/tierscope/models".into()));
        assert_eq!(of(None, Some("/h")), Some("/h/.cache/tierscope/models".into()));
        assert_eq!(of(Some("relative"), Some("/h")), Some("/h/.cache/tierscope/models".into()));
        assert_eq!(of(Some(""), None), None);
    }
}
