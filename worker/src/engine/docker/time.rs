//! Times of containers.

use muster_domain::time::Moment;

/// Reads the engine's RFC 3339 text as milliseconds since the Unix epoch; `None` for its "never" (the year 1) and for
/// anything that is no time.
pub(super) fn parse_wall_ms(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| text.as_bytes().get(*at) != Some(byte)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let rest = text.get(19..)?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let millis = match fraction.strip_prefix('.') {
        Some(digits) => format!("{digits:0<3}").get(..3)?.parse::<i64>().ok()?,
        None => 0,
    };
    let zone_minutes = match zone.as_bytes().first()? {
        b'Z' => 0,
        sign => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if *sign == b'-' { -minutes } else { minutes }
        }
    };
    let days = days_since_epoch(year, month, day);
    let seconds = ((days * 24 + hour) * 60 + minute - zone_minutes) * 60 + second;
    u64::try_from(seconds * 1000 + millis).ok()
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// When a container's first process started, on `CLOCK_BOOTTIME`, if it can be seen from here: a worker in a container of
/// its own would find a stranger under that number.
pub(super) fn process_start(pid: i64, container: &str) -> Option<Moment> {
    start_in_stat(&process_file(pid, container, "stat")?)
}

/// A file of `/proc/<pid>`, if that process is visible and of this container.
pub(super) fn process_file(pid: i64, container: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
    // Looked at last: had the process ended and its number been given to another, this would be the other's.
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    (!container.is_empty() && cgroups.contains(container)).then_some(text)
}

/// Field 22 of `/proc/<pid>/stat`, in ticks of 1/100 s, which is the kernel's fixed unit towards programs on all
/// machines that run containers.
fn start_in_stat(stat: &str) -> Option<Moment> {
    // The second field is the program's name in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_ascii_whitespace().nth(19)?.parse::<u64>().ok()?;
    Some(Moment(ticks.checked_mul(10)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_of_the_engine() {
        assert_eq!(parse_wall_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_wall_ms("2026-11-21T12:03:26.436517905Z"), Some(1_795_262_606_436));
        assert_eq!(parse_wall_ms("2026-11-21T13:03:26.4+01:00"), Some(1_795_262_606_400));
        assert_eq!(parse_wall_ms("2024-02-29T23:59:59.99-00:30"), Some(1_709_252_999_990));
        assert_eq!(parse_wall_ms("0001-01-01T00:00:00Z"), None);
        for text in
            ["", "yesterday", "2026-11-21", "2026-11-21T12:03:26", "2026-11-21T12:03:26.Z1", "2026-1é-21T12:03:26Z"]
        {
            assert!(parse_wall_ms(text).is_none_or(|ms| ms > 0), "{text}");
        }
    }

    #[test]
    fn the_start_in_stat_survives_a_hostile_name() {
        let stat = "42 (a) b) (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 183100 1 1";
        assert_eq!(start_in_stat(stat), Some(Moment(1_831_000)));
        assert_eq!(start_in_stat("42 (a) S 1"), None);
    }

    #[test]
    fn a_process_of_another_container_is_not_believed() {
        let own = i64::from(std::process::id());
        assert_eq!(process_start(own, "0123456789abcdef-no-such-container"), None);
        assert_eq!(process_start(own, ""), None);
    }
}
