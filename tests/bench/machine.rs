//! What the kernel tells about the machine and about processes.

use std::fs;
use std::thread::available_parallelism;

/// Ticks of a second in `/proc/PID/stat`: `USER_HZ`, which Linux never changed.
const TICKS: f64 = 100.0;

/// The machine in a line or two, to judge the figures by.
pub fn facts() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = value_of(&processor, "model name").unwrap_or("processor unknown");
    let busy = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let busy = busy.split(' ').next().unwrap_or_default().to_owned();
    format!("{cores} cores, {model}, Linux {}, load average at the start {busy}", kernel.trim())
}

/// KiB of physical memory that a process has.
pub fn resident_kib(process: u32) -> Result<f64, String> {
    let text = read(&format!("/proc/{process}/status"))?;
    let value = value_of(&text, "VmRSS").and_then(|value| value.strip_suffix("kB")?.trim().parse().ok());
    value.ok_or_else(|| format!("process {process} has no VmRSS"))
}

/// Seconds of processor time that a process took, all its threads together.
pub fn processor_seconds(process: u32) -> Result<f64, String> {
    let text = read(&format!("/proc/{process}/stat"))?;
    // The name before the parenthesis may hold anything; utime and stime are the 12th and 13th field behind it.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let ticks =
        fields.map(|fields| fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum());
    ticks.map(|ticks: f64| ticks / TICKS).ok_or_else(|| format!("process {process} has no times"))
}

/// The same to the nanosecond, of the threads that it has now: for times in which none of them ends.
pub fn running_seconds(process: u32) -> Result<f64, String> {
    let folder = format!("/proc/{process}/task");
    let threads = fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?;
    // One that ends meanwhile is gone.
    let texts = threads.flatten().flat_map(|thread| fs::read_to_string(thread.path().join("schedstat")));
    let nanos = texts.filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    Ok(nanos.sum::<f64>() / 1e9)
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}
