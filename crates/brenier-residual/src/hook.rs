//! Names of places in a decoder.

use std::fmt;
use std::str::FromStr;

use crate::ResidualError;

/// A place in a decoder block. The order is the order in which a block computes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
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

    /// This site of a block.
    #[must_use]
    pub fn at(self, layer: u16) -> HookPoint {
        HookPoint { layer, site: self }
    }

    /// This site of every block of a model of `layers` blocks, in their order.
    ///
    /// ```
    /// use brenier_residual::{HookPoint, Site};
    ///
    /// let points: Vec<HookPoint> = Site::ResidMid.all_layers(2).collect();
    /// assert_eq!(points, [HookPoint::resid_mid(0), HookPoint::resid_mid(1)]);
    /// ```
    pub fn all_layers(self, layers: u16) -> impl Iterator<Item = HookPoint> {
        (0..layers).map(move |layer| self.at(layer))
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
    /// The residual stream as it enters block `layer`.
    #[must_use]
    pub fn resid_pre(layer: u16) -> Self {
        Site::ResidPre.at(layer)
    }

    /// What attention adds to the stream in block `layer`.
    #[must_use]
    pub fn attn_out(layer: u16) -> Self {
        Site::AttnOut.at(layer)
    }

    /// The residual stream between attention and the feed-forward part of block `layer`.
    #[must_use]
    pub fn resid_mid(layer: u16) -> Self {
        Site::ResidMid.at(layer)
    }

    /// What the feed-forward part adds to the stream in block `layer`.
    #[must_use]
    pub fn mlp_out(layer: u16) -> Self {
        Site::MlpOut.at(layer)
    }

    /// The residual stream as it leaves block `layer`, before any final norm.
    #[must_use]
    pub fn resid_post(layer: u16) -> Self {
        Site::ResidPost.at(layer)
    }

    /// Every place of a model of `layers` blocks, in the order of computation.
    pub fn all(layers: u16) -> impl Iterator<Item = Self> {
        (0..layers).flat_map(|layer| Site::ALL.into_iter().map(move |site| site.at(layer)))
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
    fn constructors_name_their_own_site_and_all_places_are_in_order() {
        let of: [fn(u16) -> HookPoint; 5] = [
            HookPoint::resid_pre,
            HookPoint::attn_out,
            HookPoint::resid_mid,
            HookPoint::mlp_out,
            HookPoint::resid_post,
        ];
        let all: Vec<HookPoint> = HookPoint::all(2).collect();
        assert_eq!(all, (0..2).flat_map(|layer| of.map(|of| of(layer))).collect::<Vec<_>>());
        assert!(all.is_sorted());
        let names: Vec<String> = of.map(|of| of(7).to_string()).into();
        let expected = ["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"];
        assert_eq!(names, expected.map(|site| format!("blocks.7.hook_{site}")));
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
