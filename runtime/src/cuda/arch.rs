//! Which devices run code for which architecture.

/// Whether a device of compute capability `device` runs PTX for `arch`: `sm_80` runs on 8.0 and all later, `sm_100f` on its own major version from
/// there, `sm_90a` on 9.0 alone. Names that cannot be read run nowhere.
pub(crate) fn supports(device: (u32, u32), arch: &str) -> bool {
    let Some(name) = arch.strip_prefix("sm_") else { return false };
    let digits = name.trim_end_matches(['a', 'f']);
    let Ok(number) = digits.parse::<u32>() else { return false };
    let wanted = (number / 10, number % 10);
    match name.strip_prefix(digits) {
        Some("") => device >= wanted,
        Some("f") => device.0 == wanted.0 && device >= wanted,
        Some("a") => device == wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::supports;

    #[test]
    fn plain_architectures_run_on_later_devices_and_specific_ones_on_their_own() {
        let cases = [
            ((8, 0), "sm_80", true),
            ((9, 0), "sm_80", true),
            ((7, 5), "sm_80", false),
            ((9, 0), "sm_90a", true),
            ((10, 0), "sm_90a", false),
            ((8, 9), "sm_90a", false),
            ((10, 3), "sm_100f", true),
            ((12, 0), "sm_100f", false),
            ((12, 0), "sm_100", true),
            ((9, 0), "gfx90a", false),
            ((9, 0), "sm_a", false),
            ((9, 0), "sm_90af", false),
        ];
        for (device, arch, expected) in cases {
            assert_eq!(supports(device, arch), expected, "{device:?} {arch}");
        }
    }
}
