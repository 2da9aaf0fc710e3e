//! Reads what a run costs: memory and CPU of processes from /proc, the write-ahead log from PostgreSQL.

use std::fs;

/// Clock ticks of /proc/PID/stat in a second: USER_HZ, 100 on Linux whatever the kernel's own.
const TICKS_PER_SEC: f64 = 100.0;

/// Resident memory of a process in MB, now and at its peak.
pub(crate) fn rss_mb(pid: u32) -> Option<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |key: &str| -> Option<f64> {
        status.lines().find(|l| l.starts_with(key))?.split_whitespace().nth(1)?.parse().ok()
    };
    Some((kib("VmRSS:")? / 1024.0, kib("VmHWM:")? / 1024.0))
}

/// CPU seconds that a process has used, its threads included.
pub(crate) fn cpu_secs(pid: u32) -> f64 {
    ticks_of(pid).unwrap_or(0.0) / TICKS_PER_SEC
}

/// CPU seconds of a process and of its children, the finished ones that it has waited for included.
pub(crate) fn tree_cpu_secs(parent: u32) -> f64 {
    let Ok(entries) = fs::read_dir("/proc") else { return 0.0 };
    let mut ticks = waited_ticks_of(parent).unwrap_or(0.0) + ticks_of(parent).unwrap_or(0.0);
    for pid in entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok()) {
        if fields(pid).is_some_and(|f| f.get(1).and_then(|p| p.parse::<u32>().ok()) == Some(parent)) {
            ticks += ticks_of(pid).unwrap_or(0.0);
        }
    }
    ticks / TICKS_PER_SEC
}

/// The fields of /proc/PID/stat after the command's name (proc(5)): state is 0, ppid 1, utime 11, stime 12.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn ticks_of(pid: u32) -> Option<f64> {
    let fields = fields(pid)?;
    Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
}

fn waited_ticks_of(pid: u32) -> Option<f64> {
    let fields = fields(pid)?;
    Some(fields.get(13)?.parse::<f64>().ok()? + fields.get(14)?.parse::<f64>().ok()?)
}

/// Ticks of all processors since the machine started (proc(5), /proc/stat): busy ones, and all.
pub(crate) fn machine_ticks() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
    let all: f64 = ticks.iter().take(8).sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

/// A percentile (0 to 1) of values, which get sorted; 0 when there are none.
pub(crate) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let at = (values.len() as f64 * share) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// A figure with at most three decimals.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) const fn to_f64(count: usize) -> f64 {
    count as f64
}
