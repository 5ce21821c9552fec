//! Numbers as people read them.

/// `350 ms`, `12 s`, `3 min 05 s`, `1 h 02 min`, `2 d 03 h`.
pub(crate) fn duration(ms: u64) -> String {
    let (seconds, minutes, hours, days) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => format!("{minutes} min {:02} s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

/// `512 B`, `1.5 GiB`, `64 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    // Tenths, rounded down: what is shown as free is free.
    let found = units.iter().enumerate().rev().find_map(|(power, unit)| {
        let one = 1_u128 << (10 * (power + 1));
        (u128::from(bytes) >= one).then(|| (u128::from(bytes) * 10 / one, unit))
    });
    match found {
        None => format!("{bytes} B"),
        Some((tenths, unit)) if tenths % 10 == 0 => format!("{} {unit}", tenths / 10),
        Some((tenths, unit)) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

/// A wall time in UTC, as `2026-02-28T23:59:59Z`.
pub(crate) fn time(epoch_ms: u64) -> String {
    let seconds = epoch_ms / 1_000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01.
fn date(day: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year; 400 years always have 146,097 days.
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March have 31, 30, 31, 30, 31 days, again and again.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (59_999, "59 s"),
            (185_000, "3 min 05 s"),
            (3_720_000, "1 h 02 min"),
            (183_600_000, "2 d 03 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn sizes() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (64 << 30, "64 GiB"), (u64::MAX, "15.9 EiB")];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn times() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_799_999, "2000-02-29T23:59:59Z"),
            (1_772_323_199_000, "2026-02-28T23:59:59Z"),
            (1_798_761_600_000, "2027-01-01T00:00:00Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(time(ms), text);
        }
        // Every day of 400 years follows the one before.
        let mut before = date(0);
        for day in 1..146_097 {
            let (year, month, number) = date(day);
            let next = (before.0, before.1, before.2 + 1) == (year, month, number)
                || (number == 1 && ((before.0, before.1 + 1) == (year, month) || (before.0 + 1, 1) == (year, month)));
            assert!(next, "{before:?} then {:?}", (year, month, number));
            before = (year, month, number);
        }
    }
}
