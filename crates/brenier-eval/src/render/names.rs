//! Methods in words.

/// What a method is called in tables and plots.
#[must_use]
pub fn method_name(method: &str) -> String {
    match method {
        "pca-ot" => "PCA-OT",
        "gated" => "gated PCA-OT",
        "ot" => "full OT",
        "mean" => "mean shift",
        "rfa" => "RFA",
        "ace" => "ACE",
        "act-linear" => "AcT linear",
        "act-gaussian" => "AcT Gaussian",
        "leace" => "LEACE",
        "entropic" => "entropic OT",
        "act-mean" => "AcT mean",
        "whitening" => "whitening-colouring",
        "baseline" => "untouched",
        other => other,
    }
    .to_owned()
}

/// What a method does, in a sentence or two; `None` for one that is not known here.
pub(super) fn method_note(method: &str) -> Option<&'static str> {
    Some(match method {
        "pca-ot" => {
            "The optimal map between two Gaussians in the first K principal axes of both classes together; the rest \
             of the activation stays as it is. Nanfack, Belilovsky and Dohmatob (2026), arXiv:2603.04355."
        }
        "gated" => {
            "PCA-OT times the posterior probability, in the same K coordinates, that the activation belongs to the \
             source: activations of the target stay where they are. The barycentric map of the two-component \
             Gaussian mixture, after Delon and Desolneux (2020)."
        }
        "ot" => {
            "The optimal map between two Gaussians in all dimensions, with covariances shrunk towards a multiple of \
             the identity, kept as identity plus low rank. Knott and Smith (1984); Takatsu (2011)."
        }
        "mean" => "The difference of the two means, added: x + m_t - m_s.",
        "rfa" => {
            "The direction of the difference of means, projected out at every block input, attention output and \
             feed-forward output. Arditi et al. (2024)."
        }
        "ace" => {
            "Affine concept editing: the coordinate along the difference of means is set to the target's mean. \
             Marshall, Scherlis and Belrose (2024)."
        }
        "act-linear" => {
            "One-dimensional optimal transport for each coordinate by itself, as the straight line that fits the \
             sorted values best. Rodriguez et al. (2025)."
        }
        "act-gaussian" => {
            "One-dimensional optimal transport for each coordinate by itself, between two Gaussians. Rodriguez et \
             al. (2025)."
        }
        "leace" => {
            "Least-squares concept erasure: no linear probe finds the class any more. Belrose et al. (2023)."
        }
        _ => return None,
    })
}
