//! What can be set about one workload and no other: `--set KEY=VALUE`.
//!
//! A workload declares its settings in a table, with a default and the values that make sense. The table is all there
//! is: the command line is checked against it before anything runs, `help NAME` prints it, and a workload asks for a
//! setting by the name it declared. A value that a workload sees has therefore been found valid.

use serde_json::{Map, Value, json};

/// One setting of one workload.
#[derive(Debug)]
pub(crate) struct Declared {
    /// The key.
    pub(crate) name: &'static str,
    /// Its value where none is given.
    pub(crate) default: &'static str,
    /// Which values make sense.
    pub(crate) values: Values,
    /// What it decides, in one line.
    pub(crate) help: &'static str,
}

/// Which values a setting may take.
#[derive(Debug)]
pub(crate) enum Values {
    /// One of some words.
    OneOf(&'static [&'static str]),
    /// A number, both ends included.
    Number { least: f64, most: f64 },
    /// A whole number, both ends included.
    Whole { least: u32, most: u32 },
    /// Whatever a reader of its own accepts, and how that is written.
    Read { form: &'static str, accepts: fn(&str) -> bool },
}

impl Values {
    /// The values, for people.
    pub(crate) fn form(&self) -> String {
        match self {
            Values::OneOf(words) => words.join(" | "),
            Values::Number { least, most } => format!("{least} to {most}"),
            Values::Whole { least, most } => format!("a whole number from {least} to {most}"),
            Values::Read { form, .. } => (*form).to_owned(),
        }
    }

    fn accept(&self, value: &str) -> bool {
        match self {
            Values::OneOf(words) => words.contains(&value),
            Values::Number { least, most } => value.parse().is_ok_and(|number| (*least..=*most).contains(&number)),
            Values::Whole { least, most } => value.parse().is_ok_and(|number| (*least..=*most).contains(&number)),
            Values::Read { accepts, .. } => accepts(value),
        }
    }
}

/// The settings of one run.
#[derive(Debug)]
pub(crate) struct Options {
    values: Vec<(&'static str, String)>,
}

impl Options {
    /// The defaults of `workload`, changed by `set` (each `KEY=VALUE`; of two for one key the later holds). The error
    /// is a sentence for people.
    pub(crate) fn read(workload: &str, declared: &'static [Declared], set: &[String]) -> Result<Self, String> {
        let mut values: Vec<_> = declared.iter().map(|option| (option.name, option.default.to_owned())).collect();
        for one in set {
            let (key, value) = one.split_once('=').ok_or(format!("--set takes KEY=VALUE, not '{one}'"))?;
            let at = declared.iter().position(|option| option.name == key);
            let (option, (_, slot)) = at
                .and_then(|at| declared.get(at).zip(values.get_mut(at)))
                .ok_or_else(|| unknown(workload, declared, key))?;
            if !option.values.accept(value) {
                return Err(format!("{key} of {workload} is {}, not '{value}'", option.values.form()));
            }
            value.clone_into(slot);
        }
        Ok(Options { values })
    }

    /// The value of a setting that the workload declares.
    pub(crate) fn text(&self, name: &str) -> &str {
        let found = self.values.iter().find(|(key, _)| *key == name);
        debug_assert!(found.is_some(), "{name} is not declared");
        found.map_or("", |(_, value)| value)
    }

    /// The value of a setting declared as [`Values::Number`].
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or_default()
    }

    /// The value of a setting declared as [`Values::Whole`].
    pub(crate) fn whole(&self, name: &str) -> usize {
        self.text(name).parse().unwrap_or_default()
    }

    /// Every setting and its value, for the result.
    pub(crate) fn all(&self) -> Map<String, Value> {
        self.values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
    }
}

fn unknown(workload: &str, declared: &[Declared], key: &str) -> String {
    let names: Vec<_> = declared.iter().map(|option| option.name).collect();
    let known = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
    format!("{workload} has no setting '{key}'; {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    static DECLARED: &[Declared] = &[
        Declared { name: "weights", default: "f32", values: Values::OneOf(&["f32", "int8"]), help: "" },
        Declared { name: "threshold", default: "0.5", values: Values::Number { least: 0.0, most: 1.0 }, help: "" },
        Declared { name: "batch", default: "4", values: Values::Whole { least: 1, most: 8 }, help: "" },
        Declared {
            name: "law",
            default: "even",
            values: Values::Read { form: "even or a year", accepts: |text| text == "even" || text.len() == 4 },
            help: "",
        },
    ];

    fn read(set: &[&str]) -> Result<Options, String> {
        Options::read("it", DECLARED, &set.iter().map(|&one| one.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_set_has_its_default_and_the_last_one_set_holds() {
        let options = read(&["threshold=0.25", "weights=f32", "weights=int8", "batch=2"]).unwrap();
        assert_eq!((options.text("weights"), options.number("threshold")), ("int8", 0.25));
        assert_eq!((options.whole("batch"), options.text("law")), (2, "even"));
        assert_eq!(options.all()["weights"], "int8");
    }

    #[test]
    fn what_is_not_declared_or_makes_no_sense_is_refused_with_the_way_out() {
        for (set, reason) in [
            ("weights", "KEY=VALUE"),
            ("nosuch=1", "it has weights, threshold, batch, law"),
            ("weights=f64", "f32 | int8, not 'f64'"),
            ("threshold=2", "0 to 1"),
            ("threshold=nan", "0 to 1"),
            ("batch=9", "1 to 8"),
            ("law=x", "even or a year"),
        ] {
            let error = read(&[set]).unwrap_err();
            assert!(error.contains(reason), "{set}: {error}");
        }
    }

    #[test]
    fn every_default_is_a_value_its_setting_takes() {
        for workload in crate::workload::all() {
            for option in workload.options {
                assert!(option.values.accept(option.default), "{} {}", workload.name, option.name);
            }
        }
    }
}
