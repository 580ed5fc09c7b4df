//! The architectures: which model a configuration asks for.

use brenier_residual::ResidualModel;
use burn::tensor::{DType, Device};

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::ModelError;

/// A model with the weights of a checkpoint, and its configuration as the checkpoint has it: what it holds may
/// overrule what its configuration says.
pub(crate) fn load(
    config: &Config,
    checkpoint: &mut Checkpoint<'_>,
    device: &Device,
    dtype: DType,
) -> Result<(Box<dyn ResidualModel + Send + Sync>, Config), ModelError> {
    let decoder = Decoder::build(config, checkpoint, device, dtype)?;
    let config = decoder.config().clone();
    Ok((Box::new(decoder), config))
}
