//! How good an order is: Kendall's tau and NDCG.

/// Kendall's tau-b of two lists of values: 1 where they order all pairs alike, -1 where all differently; `None` where one of them
/// orders nothing.
#[must_use]
pub fn kendall_tau(truth: &[f64], said: &[f64]) -> Option<f64> {
    let (mut agreed, mut pairs_truth, mut pairs_said) = (0.0, 0.0, 0.0);
    for (at, (truth_a, said_a)) in truth.iter().zip(said).enumerate() {
        for (truth_b, said_b) in truth.iter().zip(said).skip(at + 1) {
            let sign = |a: f64, b: f64| f64::from(i8::from(a > b) - i8::from(a < b));
            let (of_truth, of_said) = (sign(*truth_a, *truth_b), sign(*said_a, *said_b));
            agreed += of_truth * of_said;
            pairs_truth += of_truth * of_truth;
            pairs_said += of_said * of_said;
        }
    }
    let pairs: f64 = pairs_truth * pairs_said;
    (pairs > 0.0).then(|| agreed / pairs.sqrt())
}

/// Normalised discounted cumulative gain: the gains in the order that `said` puts them, each over the logarithm of its place,
/// against the best order. 1 where nothing is to be gained.
#[must_use]
pub fn ndcg(truth: &[f64], said: &[f64]) -> f64 {
    let gain = |mut pairs: Vec<(f64, f64)>| {
        // Ties in what was said go against it: the smaller gain first.
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
        pairs.iter().zip(2u32..).map(|((_, gain), place)| gain.max(0.0) / f64::from(place).log2()).sum::<f64>()
    };
    let best = gain(truth.iter().map(|&truth| (truth, truth)).collect());
    let found = gain(said.iter().copied().zip(truth.iter().copied()).collect());
    if best > 0.0 { found / best } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_order_is_one_and_the_opposite_minus_one() {
        let truth = [0.1, 0.5, 0.3];
        assert_eq!(kendall_tau(&truth, &[1.0, 9.0, 2.0]), Some(1.0));
        assert_eq!(kendall_tau(&truth, &[9.0, 1.0, 2.0]), Some(-1.0));
        assert_eq!(kendall_tau(&truth, &[1.0; 3]), None);
        assert_eq!(ndcg(&truth, &[1.0, 9.0, 2.0]), 1.0);
        assert!(ndcg(&truth, &[9.0, 1.0, 2.0]) < 0.8);
        assert_eq!(ndcg(&[0.0; 3], &truth), 1.0);
    }
}
