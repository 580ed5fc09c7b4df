//! Names of places in a decoder.

use std::fmt;
use std::str::FromStr;

use crate::ResidualError;

/// A place in a decoder block. The order is the order in which a block computes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// The residual stream as it enters the block.
    ResidPre,
    /// What attention adds to the stream.
    AttnOut,
    /// The residual stream between attention and the feed-forward part.
    ResidMid,
    /// What the feed-forward part adds to the stream.
    MlpOut,
    /// The residual stream as it leaves the block, before any final norm.
    ResidPost,
}

impl Site {
    /// All sites, in the order of computation.
    pub const ALL: [Site; 5] = [Site::ResidPre, Site::AttnOut, Site::ResidMid, Site::MlpOut, Site::ResidPost];

    /// The site's name in TransformerLens' terms, without `hook_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Site::ResidPre => "resid_pre",
            Site::AttnOut => "attn_out",
            Site::ResidMid => "resid_mid",
            Site::MlpOut => "mlp_out",
            Site::ResidPost => "resid_post",
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Site {
    type Err = ResidualError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Site::ALL
            .into_iter()
            .find(|site| site.name() == name)
            .ok_or_else(|| ResidualError::UnknownSite { name: name.to_owned() })
    }
}

/// One place in one decoder block; layers count from 0.
///
/// ```
/// use brenier_residual::{HookPoint, Site};
///
/// let at = HookPoint { layer: 3, site: Site::ResidPost };
/// assert_eq!(at.to_string(), "blocks.3.hook_resid_post");
/// assert_eq!("blocks.3.hook_resid_post".parse(), Ok(at));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookPoint {
    /// Index of the decoder block.
    pub layer: u16,
    /// Place in that block.
    pub site: Site,
}

impl HookPoint {
    /// The stream as it leaves block `layer`.
    #[must_use]
    pub fn resid_post(layer: u16) -> Self {
        Self { layer, site: Site::ResidPost }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks.{}.hook_{}", self.layer, self.site)
    }
}

impl FromStr for HookPoint {
    type Err = ResidualError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (layer, site) = name.strip_prefix("blocks.")?.split_once(".hook_")?;
            // `parse::<u16>` takes "+3" and "03": a name has one spelling.
            let number: u16 = layer.parse().ok()?;
            (number.to_string() == layer).then_some(())?;
            Some(HookPoint { layer: number, site: site.parse().ok()? })
        };
        parse().ok_or_else(|| ResidualError::UnknownHookPoint { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_round_trips() {
        for site in Site::ALL {
            let at = HookPoint { layer: 41, site };
            assert_eq!(at.to_string().parse::<HookPoint>(), Ok(at));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for name in [
            "",
            "blocks.3",
            "blocks.03.hook_resid_post",
            "blocks.+3.hook_resid_post",
            "blocks.3.hook_x",
            "blocks.70000.hook_resid_pre",
        ] {
            assert!(name.parse::<HookPoint>().is_err(), "{name}");
        }
    }
}
