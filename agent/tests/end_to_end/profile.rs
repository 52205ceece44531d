//! `report --json` by its contract.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Outcome, run, tierscope};

/// A report that holds to the contract.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) header: Value,
    pub(crate) objects: Vec<Object>,
}

/// One object of it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: String,
    /// Innermost frame first.
    pub(crate) site: Vec<String>,
    /// Every function of every frame, inlined ones too.
    functions: Vec<String>,
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) share: f64,
    pub(crate) live_bytes_max: u64,
    pub(crate) samples: f64,
}

impl Object {
    /// Whether its name, or a function on its call stack, contains `word`.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        [&self.name].into_iter().chain(&self.site).chain(&self.functions).any(|text| text.contains(word))
    }
}

impl Report {
    /// Reports on a profile, which must open, and checks everything that holds for all reports.
    #[track_caller]
    pub(crate) fn of(profile: &Path) -> Report {
        let outcome = json(profile).expect(0);
        Report::parse(&outcome.stdout)
    }

    /// Parses a report and checks what holds for all.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Report {
        let report: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(report["schema"], "tierscope.report/1");
        let header = report["profile"].clone();
        for number in ["duration_s", "samples", "lost_samples", "lost_allocations"] {
            let value = header[number].as_f64().unwrap_or_else(|| panic!("profile.{number} in {header}"));
            assert!(value >= 0.0, "profile.{number} is {value}");
        }
        assert!(matches!(header["sampler"].as_str(), Some("clock" | "fault" | "pmu")), "{header}");
        assert!(header["complete"].is_boolean(), "{header}");
        // Of no samples there is no share.
        let attributed = header["attributed"].as_f64();
        assert!(attributed.map_or(header["samples"] == 0, |share| (0.0..=1.0).contains(&share)), "{header}");

        let objects: Vec<Object> = report["objects"].as_array().unwrap().iter().enumerate().map(object).collect();
        let shares: f64 = objects.iter().map(|object| object.share).sum();
        assert!(shares <= 1.0 + 1e-6, "shares add up to {shares}");
        Report { header, objects }
    }

    /// The first object of a kind.
    #[track_caller]
    pub(crate) fn top(&self, kind: &str) -> &Object {
        let top = self.objects.iter().find(|object| object.kind == kind);
        top.unwrap_or_else(|| panic!("no {kind} object in\n{}", self.summary()))
    }

    /// The share of all objects that mention `word`.
    pub(crate) fn share(&self, word: &str) -> f64 {
        // An empty sum of floats is -0.0.
        self.objects.iter().filter(|object| object.mentions(word)).map(|object| object.share).sum::<f64>() + 0.0
    }

    /// Fails the test unless the first object is of this kind and mentions `word`.
    #[track_caller]
    pub(crate) fn expect_on_top(&self, kind: &str, word: &str) {
        let top = self.objects.first().unwrap_or_else(|| panic!("no objects: {}", self.header));
        assert!(top.kind == kind && top.mentions(word), "expected {kind} {word} on top of\n{}", self.summary());
    }

    /// How many samples there are.
    pub(crate) fn samples(&self) -> f64 {
        self.header["samples"].as_f64().unwrap()
    }

    /// How long was sampled.
    pub(crate) fn duration_s(&self) -> f64 {
        self.header["duration_s"].as_f64().unwrap()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.header["complete"] == true
    }

    /// The first objects in a few lines, for messages.
    pub(crate) fn summary(&self) -> String {
        let lines = self.objects.iter().take(8).map(|object| {
            let Object { kind, name, site, share, live_bytes_max, .. } = object;
            let frames: Vec<_> = site.iter().take(6).map(String::as_str).collect();
            format!("  {:5.1} % {kind} {name} {live_bytes_max} bytes: {}\n", share * 100.0, frames.join(" < "))
        });
        format!("{}{}", lines.collect::<String>(), self.header)
    }
}

fn object((index, object): (usize, &Value)) -> Object {
    let number = |name: &str| object[name].as_f64().unwrap_or_else(|| panic!("{name} in {object}"));
    let text = |name: &str| object[name].as_str().unwrap_or_else(|| panic!("{name} in {object}")).to_owned();
    let kind = text("kind");
    assert!(["heap", "global", "stack", "file", "anon"].contains(&kind.as_str()), "{object}");
    assert_eq!(object["rank"], index as u64 + 1, "{object}");
    let frames = object["frames"].as_array().unwrap().iter();
    let functions = frames.flat_map(|frame| frame["functions"].as_array().unwrap());
    let share = number("share");
    let interval: Vec<f64> = object["share_interval"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    let [low, high] = interval[..] else { panic!("share_interval in {object}") };
    assert!(0.0 <= low && low <= share && share <= high && high <= 1.0, "{object}");
    assert!(number("loads") + number("stores") >= 0.0 && number("allocations") >= 0.0);
    Object {
        kind,
        site: object["site"].as_array().unwrap().iter().map(|frame| frame.as_str().unwrap().to_owned()).collect(),
        functions: functions.map(|function| function["name"].as_str().unwrap().to_owned()).collect(),
        name: text("name"),
        id: text("id"),
        share,
        live_bytes_max: number("live_bytes_max") as u64,
        samples: number("samples"),
    }
}

/// Runs `report --json`, whatever comes of it.
pub(crate) fn json(profile: &Path) -> Outcome {
    run(tierscope().arg("report").arg(profile).arg("--json"))
}
