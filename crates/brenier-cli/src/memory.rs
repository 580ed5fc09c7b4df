//! Whether a model fits, and in which dtype.

use brenier::device::is_cpu;
use brenier::model::{LanguageModel, ModelDirectory};
use brenier::{DType, Device};
use sysinfo::{MemoryRefreshKind, System};

use crate::failure::usage_error;
use crate::select::Dtype;

/// The run that must fit for a model to be loaded: one row of so many tokens, or of the model's context.
const TOKENS: usize = 1024;
/// Most rows at once: more are not faster.
const ROWS: usize = 64;

/// The dtype that a model is to be loaded in, what that takes, and what is free.
pub struct Plan {
    pub dtype: DType,
    pub need: Need,
    /// Free memory in bytes; not known of a GPU.
    pub free: Option<u64>,
    /// Whether bf16 would fit where this does not.
    bf16_fits: bool,
}

impl Plan {
    /// The plan for a dtype of the user's, or for the best one: on a GPU the checkpoint's own where the device has it, on
    /// a CPU f32 where it fits, else bf16.
    pub fn new(directory: &ModelDirectory, device: &Device, wanted: Dtype) -> Self {
        let need = |dtype| Need::new(directory, device, dtype);
        if is_cpu(device) {
            return Self::within(&need, free(), wanted.wanted());
        }
        let stored = directory.stored_dtype().filter(|&dtype| device.supports_dtype(dtype));
        let dtype = wanted.wanted().or(stored).unwrap_or(DType::F32);
        Self { dtype, need: need(dtype), free: None, bf16_fits: false }
    }

    fn within(need: &dyn Fn(DType) -> Need, free: u64, wanted: Option<DType>) -> Self {
        let fits = |dtype| need(dtype).total() <= free;
        let best = if fits(DType::F32) { DType::F32 } else { DType::BF16 };
        let dtype = wanted.unwrap_or(best);
        Self { dtype, need: need(dtype), free: Some(free), bf16_fits: fits(DType::BF16) }
    }

    /// Refuses what does not fit.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some(free) = self.free.filter(|&free| free < self.need.total()) else { return Ok(()) };
        let dtype = format!("{:?}", self.dtype).to_lowercase();
        let remedy = match self.bf16_fits {
            true => "use --dtype bf16",
            false => "use a machine with more memory, or a smaller model",
        };
        let (need, free) = (&self.need, size(free));
        Err(usage_error(format!("the model does not fit: in {dtype} {need}, and {free} are free; {remedy}")))
    }
}

/// What a model needs at least, in bytes.
pub struct Need {
    pub weights: u64,
    /// Keys, values and activations of one row of `tokens` tokens.
    pub run: u64,
    pub tokens: usize,
}

impl Need {
    fn new(directory: &ModelDirectory, device: &Device, dtype: DType) -> Self {
        let footprint = directory.footprint(device, dtype);
        let tokens = directory.config().context.min(TOKENS);
        Self { weights: footprint.weights, run: footprint.beside_weights(1, tokens), tokens }
    }

    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.run)
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (weights, run, total) = (size(self.weights), size(self.run), size(self.total()));
        write!(f, "its weights take {weights} and a prompt of {} tokens {run}, together {total}", self.tokens)
    }
}

/// As many rows of `tokens` tokens as half of what is free now holds, between 1 and [`ROWS`]. `None` where that is not
/// known.
pub fn rows_that_fit(model: &LanguageModel, tokens: usize) -> Option<usize> {
    let spec = model.model().spec();
    if !is_cpu(&spec.device) {
        return None;
    }
    let footprint = model.footprint(&spec.device, spec.weights);
    let room = free() / 2;
    (1..=ROWS)
        .rev()
        .find(|&rows| footprint.beside_weights(rows, tokens.min(spec.context)) <= room)
        .or(Some(1))
}

/// Bytes that are free on this machine, or left to this program where it is limited to fewer.
fn free() -> u64 {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let free = system.available_memory();
    // Pages of files that a limited program has read count as used, and are given back when memory is short.
    match system.cgroup_limits().filter(|limits| limits.total_memory < system.total_memory()) {
        Some(limits) => free.min(limits.total_memory.saturating_sub(limits.rss)),
        None => free,
    }
}

/// The most memory that this process has held, in bytes; only Linux says.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// Bytes for a person.
pub fn size(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1u32 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of 8 GiB in bf16.
    fn plan(gib: u64, wanted: Option<DType>) -> Plan {
        let need = |dtype: DType| Need { weights: (dtype.size() as u64) << 32, run: 1 << 28, tokens: 1024 };
        Plan::within(&need, gib << 30, wanted)
    }

    #[test]
    fn f32_where_it_fits_else_bf16() {
        for (gib, wanted, dtype) in
            [(17, None, DType::F32), (16, None, DType::BF16), (9, Some(DType::BF16), DType::BF16)]
        {
            let plan = plan(gib, wanted);
            assert_eq!(plan.dtype, dtype);
            assert!(plan.check().is_ok());
        }
        let refused = |gib, wanted| plan(gib, wanted).check().expect_err("it does not fit").to_string();
        let found = refused(16, Some(DType::F32));
        assert!(found.contains("together 16.2 GiB, and 16.0 GiB are free; use --dtype bf16"), "{found}");
        let found = refused(8, None);
        assert!(found.contains("in bf16 its weights take 8.0 GiB") && !found.contains("--dtype"), "{found}");
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(free() > 1 << 20);
        if cfg!(target_os = "linux") {
            assert!(peak().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
