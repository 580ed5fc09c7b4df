//! The architectures: which model a configuration asks for.

use burn::tensor::Device;

use crate::checkpoint::{Checkpoint, Dtypes};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::lm::Model;

/// A model with the weights of a checkpoint, and its configuration as the checkpoint has it: what it holds may
/// overrule what its configuration says.
pub(crate) fn load(
    config: &Config,
    checkpoint: &mut Checkpoint<'_>,
    device: &Device,
    dtypes: Dtypes,
) -> Result<(Box<Model>, Config), ModelError> {
    let decoder = Decoder::build(config, checkpoint, device, dtypes)?;
    let config = decoder.config().clone();
    Ok((Box::new(decoder), config))
}
