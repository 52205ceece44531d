//! Human units on the command line: `4GiB`, `512M`, `25%`, `30s`.
//!
//! Sizes are binary whichever way they are written (`M` is `MiB`), as memory is sold and allocated; a number alone is
//! bytes, or seconds for a duration. Everything is checked for overflow: what a person types is outside data too.

use std::time::Duration;

/// Parses a size in bytes.
///
/// # Errors
///
/// A sentence that shows what is accepted.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{text:?} is no size; write it as 4GiB, 512M or 65536")),
    };
    let value: f64 = number.parse().map_err(|_| format!("{text:?} is no size; write it as 4GiB, 512M or 65536"))?;
    let bytes = value * (1_u64 << shift) as f64;
    if !(0.0..9e18).contains(&bytes) {
        return Err(format!("{text:?} is out of range"));
    }
    Ok(bytes.round() as u64)
}

/// Parses a part in per cent: `25%` is 0.25. Negative ones are refused, those beyond 100 % are not.
///
/// # Errors
///
/// A sentence that shows what is accepted.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let (number, unit) = split_number(text);
    let value: Option<f64> = number.parse().ok().filter(|_| unit.trim() == "%");
    match value {
        Some(value) if value <= 1e6 => Ok(value / 100.0),
        Some(_) => Err(format!("{text:?} is out of range")),
        None => Err(format!("{text:?} is no part; write it as 25%")),
    }
}

/// Parses a duration.
///
/// # Errors
///
/// A sentence that shows what is accepted.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let seconds = match unit.trim() {
        "" | "s" | "sec" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is no duration; write it as 30s, 500ms, 2m or 1h")),
    };
    let value: f64 =
        number.parse().map_err(|_| format!("{text:?} is no duration; write it as 30s, 500ms, 2m or 1h"))?;
    Duration::try_from_secs_f64(value * seconds).map_err(|_| format!("{text:?} is out of range"))
}

/// Parses a count: `1000000`, `100k`, `10M`, `2G`; decimal, as instructions are counted.
///
/// # Errors
///
/// A sentence that shows what is accepted.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let factor = match unit.trim() {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return Err(format!("{text:?} is no count; write it as 1000, 100k, 10M or 2G")),
    };
    let value: f64 = number.parse().map_err(|_| format!("{text:?} is no count; write it as 1000, 100k, 10M or 2G"))?;
    let count = value * factor;
    if count >= 9e18 {
        return Err(format!("{text:?} is out of range"));
    }
    Ok(count.round() as u64)
}

/// Bytes in lower-case hex, as build-ids are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_decimal() {
        assert_eq!(parse_count("100k"), Ok(100_000));
        assert_eq!(parse_count("2.5M"), Ok(2_500_000));
        assert_eq!(parse_count("7"), Ok(7));
        for nonsense in ["", "k", "1KiB", "-1", "1e30T", "9999999999T"] {
            assert!(parse_count(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn sizes_are_binary_however_they_are_written() {
        for (text, bytes) in [("4GiB", 4 << 30), ("4g", 4 << 30), ("512M", 512 << 20), ("1.5k", 1536), ("7", 7)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_take_the_usual_units() {
        for (text, millis) in [("30s", 30_000), ("30", 30_000), ("500ms", 500), ("2m", 120_000), ("0.5", 500)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn parts_are_in_per_cent() {
        for (text, part) in [("25%", 0.25), ("12.5 %", 0.125), ("0%", 0.0), ("250%", 2.5)] {
            assert_eq!(parse_percent(text), Ok(part), "{text}");
        }
        for text in ["25", "-1%", "%", "25%%", "inf%", "nan%", "1e3%", "9999999%"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "GiB", "-1", "4 parsecs", "1e400", "99999999T", "..", "1.2.3"] {
            assert!(parse_bytes(text).is_err(), "{text}");
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
