//! Numbers of bytes as people write them.

/// Names of powers of 1024 and of 1000; a bare letter means the power of 1024, as in every memory tool of Linux.
const UNITS: [(&str, u64); 17] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
    ("p", 1 << 50),
    ("pib", 1 << 50),
    ("pb", 1_000_000_000_000_000),
];

/// The bytes of `4 GiB`, `512M`, `1.5 TiB`, `4096`. None for anything else, and for more than fits.
pub fn bytes_of(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    (bytes.is_finite() && bytes < (1_u64 << 53) as f64).then(|| bytes.round() as u64)
}

/// Bytes in the unit a reader would choose, rounded: `23.5 GiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024.0
        && let Some(larger) = units.next()
    {
        value /= 1024.0;
        unit = larger;
    }
    let digits = format!("{value:.*}", if value >= 100.0 { 0 } else { 1 });
    format!("{} {unit}", digits.strip_suffix(".0").unwrap_or(&digits))
}

/// Bytes exactly, in the largest unit that divides them: `128 GiB`, `4097 B`.
pub fn exact_bytes(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(scale, _)| bytes >= *scale && bytes.is_multiple_of(*scale));
    unit.map_or_else(|| format!("{bytes} B"), |(scale, name)| format!("{} {name}", bytes / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(bytes_of("4 GiB"), Some(4 << 30));
        assert_eq!(bytes_of("512M"), Some(512 << 20));
        assert_eq!(bytes_of("1.5 KiB"), Some(1536));
        assert_eq!(bytes_of("128 GB"), Some(128_000_000_000));
        assert_eq!(bytes_of("4096"), Some(4096));
        for wrong in ["", "GiB", "-1", "4 GiBs", "1e3", "nan", "99999999999 PiB", "1.2.3", "18446744073709551616"] {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn exact_sizes_read_back_to_the_byte() {
        for bytes in [1, 4097, 4096, 128 << 30, (3 << 40) + 4096, 3 << 40] {
            assert_eq!(bytes_of(&exact_bytes(bytes)), Some(bytes));
        }
        assert_eq!(human_bytes((23 << 30) + (1 << 29)), "23.5 GiB");
        assert_eq!(human_bytes((8 << 30) - 4096), "8 GiB");
        assert_eq!(human_bytes(512), "512 B");
    }
}
