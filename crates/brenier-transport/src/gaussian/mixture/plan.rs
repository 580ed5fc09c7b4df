use crate::error::TransportError;
use faer::{Mat, MatRef};

/// How many times the rounding of one sum the duality gap may be.
const TOLERANCE: f64 = 64.0;

/// An optimal plan between two discrete distributions.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Mass that goes from each point of the source to each of the target. `[m, n]`; rows sum to the source's weights,
    /// columns to the target's.
    pub weights: Mat<f64>,
    /// `sum_ij w_ij c_ij`, the least there is.
    pub cost: f64,
    /// `cost` less the value of a feasible point of the dual problem: the proof that no plan costs less, up to rounding.
    pub gap: f64,
}

/// The optimal plan for a cost matrix, exactly: by successive shortest paths \[1\], each of which exhausts a supply, a
/// demand or a flow. For the few components of a mixture; `O((m + n)^3)` a path.
///
/// # Shapes
/// `source`: `m` weights, `target`: `n` weights, both of the same sum; `cost`: `[m, n]`.
///
/// # Errors
/// [`TransportError::Certificate`] if the plan's duality gap is more than rounding.
///
/// # References
/// 1. R. K. Ahuja, T. L. Magnanti & J. B. Orlin, *Network Flows*, 1993, section 9.7; certificate by linear duality,
///    Peyré & Cuturi 2019, section 3.1.
pub(crate) fn optimal_plan(
    source: &[f64],
    target: &[f64],
    cost: MatRef<'_, f64>,
) -> Result<Plan, TransportError> {
    let (m, n) = (source.len(), target.len());
    let largest = cost.norm_max();
    let network = Network { cost, tolerance: (m + n) as f64 * f64::EPSILON * largest };
    let mut flow = Mat::<f64>::zeros(m, n);
    let (mut supply, mut demand) = (source.to_vec(), target.to_vec());
    // Far more than a plan ever needs; the certificate below finds one that was cut short.
    for _ in 0..8 * (m + 1) * (n + 1) {
        let start = supply.iter().map(|&left| if left > 0.0 { 0.0 } else { f64::INFINITY });
        let (distance, before) =
            network.shortest(start.chain(vec![f64::INFINITY; n]).collect(), flow.as_ref());
        let open = (0..n).filter(|&j| demand[j] > 0.0 && distance[m + j] < f64::INFINITY);
        let Some(end) = open.min_by(|&a, &b| distance[m + a].total_cmp(&distance[m + b])) else { break };
        let path = path(&before, m + end);
        let first = path[0];
        // Arcs from a source are forward, arcs from a target take flow back.
        let back = path.windows(2).filter(|arc| arc[0] >= m).map(|arc| flow[(arc[1], arc[0] - m)]);
        let amount = back.fold(supply[first].min(demand[end]), f64::min);
        supply[first] -= amount;
        demand[end] -= amount;
        for arc in path.windows(2) {
            if arc[0] < m {
                flow[(arc[0], arc[1] - m)] += amount
            } else {
                flow[(arc[1], arc[0] - m)] -= amount
            }
        }
    }
    let (potential, _) = network.shortest(vec![0.0; m + n], flow.as_ref());
    // The best dual for these source potentials: feasible whatever rounding did to them.
    let best = |j: usize| (0..m).map(|i| cost[(i, j)] + potential[i]).fold(f64::INFINITY, f64::min);
    let dual = (0..n).map(|j| target[j] * best(j)).sum::<f64>()
        - (0..m).map(|i| source[i] * potential[i]).sum::<f64>();
    let total = (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|at| flow[at] * cost[at]).sum::<f64>();
    let off = |sums: &mut dyn Iterator<Item = f64>| sums.fold(0.0_f64, |off, left| off.max(left.abs()));
    let left = off(&mut supply.into_iter().chain(demand));
    let mass: f64 = source.iter().sum();
    let allowed = TOLERANCE * (m + n) as f64 * f64::EPSILON;
    let relative = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { part };
    for (law, found) in [
        ("all mass is moved", relative(left, mass)),
        ("cost of the plan = value of its dual", relative((total - dual).abs(), largest * mass)),
    ] {
        if found.is_nan() || found > allowed {
            return Err(TransportError::Certificate { law, found, allowed });
        }
    }
    Ok(Plan { weights: flow, cost: total, gap: total - dual })
}

/// Sources `0..m` and targets `m..m + n`, with an arc from each source to each target, and one back where mass flows.
struct Network<'a> {
    cost: MatRef<'a, f64>,
    /// A path is shorter only by more than this: a cycle of rounding errors is no gain.
    tolerance: f64,
}

impl Network<'_> {
    /// Distances by Bellman and Ford from the given ones on, and the node before each.
    fn shortest(&self, start: Vec<f64>, flow: MatRef<'_, f64>) -> (Vec<f64>, Vec<Option<usize>>) {
        let (m, n) = self.cost.shape();
        let (mut distance, mut before) = (start, vec![None; m + n]);
        for _ in 0..m + n {
            let mut changed = false;
            let mut relax = |from: usize, to: usize, length: f64| {
                if distance[from] + length < distance[to] - self.tolerance
                    || (distance[to] == f64::INFINITY && distance[from] < f64::INFINITY)
                {
                    distance[to] = distance[from] + length;
                    before[to] = Some(from);
                    changed = true;
                }
            };
            for i in 0..m {
                for j in 0..n {
                    relax(i, m + j, self.cost[(i, j)]);
                    if flow[(i, j)] > 0.0 {
                        relax(m + j, i, -self.cost[(i, j)]);
                    }
                }
            }
            if !changed {
                break;
            }
        }
        (distance, before)
    }
}

fn path(before: &[Option<usize>], end: usize) -> Vec<usize> {
    let mut path = vec![end];
    while let Some(node) = before[path[path.len() - 1]] {
        path.push(node);
        if path.len() > before.len() {
            break;
        }
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::optimal_plan;
    use crate::random::SplitMix;
    use faer::{Mat, mat};

    fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
        if items.is_empty() {
            return vec![vec![]];
        }
        let with = |at: usize| {
            let mut rest = items.to_vec();
            let first = rest.remove(at);
            permutations(&rest).into_iter().map(move |mut tail| {
                tail.push(first);
                tail
            })
        };
        (0..items.len()).flat_map(with).collect()
    }

    #[test]
    fn equal_weights_are_an_assignment_and_the_best_of_all() {
        let mut random = SplitMix::new(3);
        for n in 1..6 {
            for _ in 0..40 {
                let cost = Mat::from_fn(n, n, |_, _| random.uniform());
                let weights = vec![1.0 / n as f64; n];
                let plan = optimal_plan(&weights, &weights, cost.as_ref()).unwrap();
                let of = |p: &Vec<usize>| p.iter().enumerate().map(|(i, &j)| cost[(i, j)]).sum::<f64>();
                let items: Vec<usize> = (0..n).collect();
                let best = permutations(&items).iter().map(of).fold(f64::INFINITY, f64::min) / n as f64;
                assert!((plan.cost - best).abs() < 1e-14, "{} {best}", plan.cost);
            }
        }
    }

    #[test]
    fn unequal_weights_split_and_keep_their_marginals() {
        let mut random = SplitMix::new(4);
        let weights = |n: usize, random: &mut SplitMix| {
            let raw: Vec<f64> = (0..n).map(|_| random.uniform()).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|w| w / sum).collect::<Vec<_>>()
        };
        for (m, n) in [(1, 7), (7, 1), (3, 5), (10, 10), (25, 30)] {
            for tied in [false, true] {
                let (a, b) = (weights(m, &mut random), weights(n, &mut random));
                // Many equal costs are where a simplex method would cycle.
                let cost =
                    Mat::from_fn(
                        m,
                        n,
                        |_, _| if tied { random.below(2) as f64 } else { random.normal().powi(2) },
                    );
                let plan = optimal_plan(&a, &b, cost.as_ref()).unwrap();
                for (i, a) in a.iter().enumerate() {
                    assert!((plan.weights.row(i).iter().sum::<f64>() - a).abs() < 1e-14);
                }
                for (j, b) in b.iter().enumerate() {
                    assert!((plan.weights.col(j).iter().sum::<f64>() - b).abs() < 1e-14);
                }
                assert!(
                    plan.gap.abs() < 1e-13 && plan.weights.col_iter().all(|c| c.iter().all(|&w| w >= 0.0))
                );
            }
        }
    }

    #[test]
    fn mass_is_taken_back_where_that_is_cheaper() {
        // The cheapest pair (0, 0) is no part of the cheapest plan.
        let cost = mat![[0.0, 1.0], [1.0, 9.0]];
        let plan = optimal_plan(&[0.5, 0.5], &[0.5, 0.5], cost.as_ref()).unwrap();
        assert_eq!((plan.cost, plan.gap), (1.0, 0.0));
        assert_eq!(plan.weights, mat![[0.0, 0.5], [0.5, 0.0]]);
    }
}
