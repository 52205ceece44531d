//! Numbers for people: three digits, a unit, and nothing that suggests more precision than there is.

/// `512 B`, `1.5 KiB`, `128 MiB`.
#[must_use]
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
    let mut scaled = value;
    let mut unit = 0;
    // 1023.5 would be rounded to four digits.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let unit = UNITS.get(unit).copied().unwrap_or_default();
    if scaled >= 99.95 || unit == "B" || (scaled - scaled.round()).abs() < 0.005 {
        format!("{scaled:.0} {unit}")
    } else if scaled >= 9.995 {
        format!("{scaled:.1} {unit}")
    } else {
        format!("{scaled:.2} {unit}")
    }
}

/// `999`, `24,310`, `1.25 M`.
#[must_use]
pub fn count(value: f64) -> String {
    let value = if value.is_finite() { value.max(0.0).round() } else { 0.0 };
    if value < 999_999.5 {
        return thousands(value as u64);
    }
    let (scaled, unit) = [(1e6, "M"), (1e9, "G"), (1e12, "T")]
        .into_iter()
        .map(|(size, unit)| (value / size, unit))
        .find(|&(scaled, _)| scaled < 999.5)
        .unwrap_or((value / 1e15, "P"));
    if scaled < 9.995 { format!("{scaled:.2} {unit}") } else { format!("{scaled:.0} {unit}") }
}

/// `24,310`.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `41.2 %` of a fraction, `8,782 %` of a large one.
#[must_use]
pub fn percent(fraction: f64) -> String {
    format!("{} %", in_percent(fraction))
}

/// The number of that: `41.2`, and `8,782` where decimals say nothing.
pub(crate) fn in_percent(fraction: f64) -> String {
    // Adding zero turns a negative zero, which a sum over nothing is, into zero.
    let percent = fraction * 100.0 + 0.0;
    if percent < 999.95 { format!("{percent:.1}") } else { thousands(percent.round() as u64) }
}

/// `12.4 s`, `350 ms`, `4 min 10 s`.
pub(crate) fn duration(nanoseconds: u64) -> String {
    let seconds = nanoseconds as f64 / 1e9;
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {} s", thousands(whole / 60), whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let mib = f64::from(1 << 20);
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1023.0), "1 KiB");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(bytes(128.0 * mib), "128 MiB");
        assert_eq!(bytes(1000.0 * mib), "0.98 GiB");
        assert_eq!(bytes(f64::NAN), "0 B");
        assert_eq!(count(24_310.0), "24,310");
        assert_eq!(count(1_254_000.0), "1.25 M");
        assert_eq!(count(1e30), "1000000000000000 P");
        assert_eq!(percent(0.4123), "41.2 %");
        assert_eq!(percent(-0.0), "0.0 %");
        assert_eq!(duration(12_400_000_000), "12.4 s");
        assert_eq!(duration(250_000_000_000), "4 min 10 s");
    }
}
