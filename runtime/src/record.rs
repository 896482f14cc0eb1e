//! What a record of a measurement says of itself.

use std::time::{SystemTime, UNIX_EPOCH};

/// The command as typed, paths cut to their last part.
pub fn command_line() -> String {
    let short = |a: String| if a.contains('/') { a.rsplit('/').next().unwrap_or_default().to_string() } else { a };
    std::env::args().map(short).collect::<Vec<_>>().join(" ")
}

/// The date in UTC (days to civil date: Hinnant, chrono-compatible low-level date algorithms).
pub fn today() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() / 86400) as i64 + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (month, day) = (if month < 10 { month + 3 } else { month - 9 }, day - (153 * month + 2) / 5 + 1);
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}
