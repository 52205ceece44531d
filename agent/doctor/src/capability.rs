//! Linux capabilities of this process: what root inside a container may still lack.

/// CAP_SYS_PTRACE.
pub(crate) const SYS_PTRACE: u32 = 19;
/// CAP_SYS_ADMIN, which includes CAP_PERFMON.
pub(crate) const SYS_ADMIN: u32 = 21;
/// CAP_PERFMON.
pub(crate) const PERFMON: u32 = 38;

/// Whether a `CapEff` mask (hexadecimal) holds a capability.
pub(crate) fn holds(mask: &str, capability: u32) -> bool {
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask >> capability & 1 == 1)
}
